"""The life of an endpoint's connection as data: its states, and the only transitions there are. Pure.

What a call does follows from the state alone: it goes out, waits for a link, waits a moment, or fails at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum

MOMENT = 1.0  # seconds for a connection to a chain whose every URL has just failed, while a call waits for it


class LinkState(StrEnum):
    """Where an endpoint stands with its nodes."""

    CONNECTING = "connecting"  # no link yet, or not any more
    LINKED = "linked"
    PAUSED = "paused"  # every URL failed in turn: nobody is asked for a while
    RETRYING = "retrying"  # after such a pause

    @property
    def is_down(self) -> bool:
        """Whether every URL has failed and none works yet."""
        return self in {LinkState.PAUSED, LinkState.RETRYING}

    @property
    def wait_limit(self) -> float:
        """For how many seconds a call waits for a link."""
        return _WAIT_LIMITS[self]


_WAIT_LIMITS = {
    LinkState.CONNECTING: math.inf,
    LinkState.LINKED: math.inf,  # the link may have ended a moment ago
    LinkState.PAUSED: 0.0,
    LinkState.RETRYING: MOMENT,
}

LINK_TRANSITIONS: Mapping[str, tuple[frozenset[LinkState], LinkState]] = {
    "made": (
        frozenset({LinkState.CONNECTING, LinkState.RETRYING, LinkState.LINKED}),
        LinkState.LINKED,
    ),  # again: an HTTP link that was renewed
    "ended": (frozenset({LinkState.LINKED}), LinkState.CONNECTING),
    "all_failed": (
        frozenset({LinkState.CONNECTING, LinkState.RETRYING, LinkState.LINKED}),
        LinkState.PAUSED,
    ),
    "pause_over": (frozenset({LinkState.PAUSED}), LinkState.RETRYING),
}


def moved(state: LinkState, transition: str) -> LinkState:
    """Return the state after a transition."""
    before, after = LINK_TRANSITIONS[transition]
    assert state in before, f"{transition} of a link that is {state}"
    return after
