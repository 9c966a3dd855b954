"""The words for the states of a request that operators read and write. Pure."""

from __future__ import annotations

from typing import Final

from kmsconn.journal.inspecting import RETRIED
from kmsconn.model.life import State

STATES: Final[dict[State, str]] = {state: state.value for state in State}
"""Each state as it is shown and chosen; ``failed`` chooses all of ``FAILED``."""

FAILED: Final = RETRIED
