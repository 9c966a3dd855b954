"""The life of a request as data: states and the only transitions there are.

The journal guards each transition with ``UPDATE … WHERE state IN (…)``; tests and documentation read this same literal.

``on_chain`` is not a state: it says whether the last trusted read still saw the request, in whatever state it is, and gates only
hand-out and signing.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a request is in its life."""

    SEEN = "seen"  # heard, durable, not answered yet
    ANSWERED = "answered"  # the Core's answer is durable
    SIGNED = "signed"  # has a nonce and signed bytes
    LANDED = "landed"  # a reply of this node is in the chain
    REPLIED = "replied"  # landed, and older than the overlap
    EXPIRED = "expired"  # its deadline came first
    REJECTED = "rejected"  # can never be answered
    QUARANTINED = "quarantined"  # unexpected; bytes kept, alarm
    DONE = "done"  # the Core has done it, and nothing is replied
    ABORTED = "aborted"  # the Core was told to stop it


TRANSITIONS: dict[str, tuple[frozenset[State], State]] = {
    "answer": (frozenset({State.SEEN}), State.ANSWERED),
    "expire": (frozenset({State.SEEN}), State.EXPIRED),
    "reject": (frozenset({State.SEEN, State.ANSWERED, State.SIGNED}), State.REJECTED),
    "found_replied": (frozenset({State.SEEN}), State.REPLIED),
    "quarantine": (frozenset({State.SEEN, State.ANSWERED}), State.QUARANTINED),
    "finish": (frozenset({State.SEEN, State.ANSWERED, State.SIGNED}), State.DONE),
    "abort": (frozenset({State.SEEN}), State.ABORTED),
    "found_landed": (frozenset({State.SEEN, State.ANSWERED}), State.LANDED),
    "sign": (frozenset({State.ANSWERED, State.SIGNED}), State.SIGNED),
    "release": (frozenset({State.SIGNED}), State.ANSWERED),
    "land": (frozenset({State.SIGNED}), State.LANDED),
    "bury": (frozenset({State.LANDED}), State.REPLIED),
    "reopen": (frozenset({State.REPLIED}), State.LANDED),
    "rejudge": (frozenset({State.REJECTED, State.DONE}), State.SEEN),
    "reoffer": (frozenset({State.REJECTED, State.DONE}), State.ANSWERED),
    "resend": (frozenset({State.LANDED}), State.ANSWERED),
    "restart": (frozenset({State.LANDED, State.REJECTED, State.EXPIRED, State.QUARANTINED}), State.SEEN),
}

OPEN = frozenset({State.SEEN, State.ANSWERED, State.SIGNED, State.LANDED})
CLOSED = frozenset(State) - OPEN
# May be parked: the state stays, only the next try moves.
WAITING = frozenset({State.SEEN, State.ANSWERED})
