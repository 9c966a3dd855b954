"""The words for the states of a request that operators read and write. Pure."""

from __future__ import annotations

from typing import Final

from kmsconn.journal.inspecting import RETRIED
from kmsconn.model.life import State

STATES: Final[dict[State, str]] = {
    **{state: state.value for state in State},
    State.SEEN: "pending",
    State.LANDED: "included",
    State.REPLIED: "finalized",
}
"""Each state as it is shown; where it is chosen, the journal's own names are understood too, and ``failed`` for those of ``FAILED``."""

FAILED: Final = RETRIED
