"""The life of a request as data: states and the only transitions there are.

The journal guards each transition with ``UPDATE … WHERE state IN (…)``; tests and documentation read this same literal.

``on_chain`` is not a state: it says whether the last trusted read still saw the request, in whatever state it is, and gates only
dispatch and signing.
"""

from __future__ import annotations

from enum import Flag, StrEnum, auto


class State(StrEnum):
    """Where a request is in its life."""

    PENDING = "pending"  # heard, durable, not answered yet
    ANSWERED = "answered"  # the Core's answer is durable
    SIGNED = "signed"  # has a nonce and signed bytes
    INCLUDED = "included"  # a reply of this node is in the chain
    FINALIZED = "finalized"  # included, and older than the reorg window
    EXPIRED = "expired"  # its deadline came first
    REJECTED = "rejected"  # can never be answered
    QUARANTINED = "quarantined"  # unexpected; bytes kept, alarm
    DONE = "done"  # the Core has done it, and nothing is replied
    ABORTED = "aborted"  # the Core was told to stop it


TRANSITIONS: dict[str, tuple[frozenset[State], State]] = {
    "answer": (frozenset({State.PENDING}), State.ANSWERED),
    "expire": (frozenset({State.PENDING}), State.EXPIRED),
    "reject": (frozenset({State.PENDING, State.ANSWERED, State.SIGNED}), State.REJECTED),
    "skip": (frozenset({State.PENDING, State.ANSWERED, State.QUARANTINED}), State.REJECTED),
    "found_finalized": (frozenset({State.PENDING}), State.FINALIZED),
    "quarantine": (frozenset({State.PENDING, State.ANSWERED}), State.QUARANTINED),
    "deliver": (frozenset({State.PENDING}), State.DONE),
    "finish": (frozenset({State.PENDING, State.ANSWERED, State.SIGNED}), State.DONE),
    "abort": (frozenset({State.PENDING}), State.ABORTED),
    "found_included": (frozenset({State.PENDING, State.ANSWERED}), State.INCLUDED),
    "sign": (frozenset({State.ANSWERED, State.SIGNED}), State.SIGNED),
    "release": (frozenset({State.SIGNED}), State.ANSWERED),
    "confirm": (frozenset({State.SIGNED}), State.INCLUDED),
    "finalize": (frozenset({State.INCLUDED}), State.FINALIZED),
    "rejudge": (frozenset({State.REJECTED, State.DONE}), State.PENDING),
    "reoffer": (frozenset({State.REJECTED, State.DONE}), State.ANSWERED),
    "resend": (frozenset({State.INCLUDED, State.FINALIZED}), State.ANSWERED),
    "restart": (frozenset({State.INCLUDED, State.REJECTED, State.EXPIRED, State.QUARANTINED}), State.PENDING),
    "reopen": (frozenset({State.FINALIZED}), State.PENDING),
    "repeat": (frozenset({State.REJECTED, State.EXPIRED, State.QUARANTINED, State.DONE}), State.PENDING),
}


class RowCause(Flag):
    """What was found out about a row when it last moved or was deferred, for whoever decides next; its reason tells it to people.

    Stored as numbers: a new member comes last.
    """

    NONE = 0
    SECOND_CHANCE = 2  # earlier journals may hold a 1, which says nothing any more
    """Of key management: the Core has refused it once; stays whatever the row waits for."""
    TAKEN_ID = auto()  # the Core says that it has the request already, and has given no result
    DESTROYED = auto()  # a context or epoch that it names was destroyed
    SKIPPED = auto()  # an operator has ended it
    REPEATABLE = auto()  # of a request over HTTP: it ended, and begins again when it is asked again
    # why a request over HTTP has ended:
    ACCESS_DENIED = auto()  # a host chain's access control list said no
    SIGNATURE_REFUSED = auto()  # the user's signature does not stand for it, or its window is not open
    NO_CIPHERTEXT = auto()  # no bucket has a ciphertext
    NO_CONSENSUS = auto()  # the coprocessors do not agree on a ciphertext
    CONTEXT_NOT_VALID = auto()  # its context or epoch is not valid, or this node is not in it
    DEPENDENCY_FAILED = auto()  # a dependency does not do what is asked of it
    REFUSED_BY_CORE = auto()
    """A decryption that the Core refused or answered wrongly: it waits ever longer, and begins again there."""


REORGANISED = "the chain was reorganised below its block"
"""The reason of a reply that went back with its block."""

OPEN = frozenset({State.PENDING, State.ANSWERED, State.SIGNED, State.INCLUDED})
CLOSED = frozenset(State) - OPEN
# May be deferred: the state stays, only the next try moves.
WAITING = frozenset({State.PENDING, State.ANSWERED})
