"""The life of a request as data: states and the only transitions there are; and the request as a straight line of typed steps.

The journal guards each transition with ``UPDATE … WHERE state IN (…)``; tests and documentation read this same literal.
``on_chain`` is not a state: it says whether the last trusted read still saw the request, in whatever state it is, and gates only
dispatch and signing.

Seen → Checked → Gathered → Submitted → Answered (→ Replied, by the transaction manager): each value holds what the next stage needs and
nothing else; mypy checks the order.
"""

from __future__ import annotations

from enum import Flag, StrEnum, auto
from typing import Any

import attrs

from kmsconn.ethereum.addresses import Address
from kmsconn.frozen import frozen
from kmsconn.model.requests import Request


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
    CHAIN_NOT_SERVED = auto()
    """It names a host chain that is not configured, or of a kind that this version does not serve."""


REORGANISED = "the chain was reorganised below its block"
"""The reason of a reply that went back with its block."""

OPEN = frozenset({State.PENDING, State.ANSWERED, State.SIGNED, State.INCLUDED})
CLOSED = frozenset(State) - OPEN
# May be deferred: the state stays, only the next try moves.
WAITING = frozenset({State.PENDING, State.ANSWERED})


@frozen
class Seen:
    """Heard and durable."""

    request: Request


@frozen
class Checked:
    """May be answered. ``context_id``/``epoch_id`` as read from extraData (None: not named)."""

    request: Request
    context_id: int | None
    epoch_id: int | None


@frozen
class Ciphertext:
    """One ciphertext as the Core takes it. ``format`` is the number of kms.v1.CiphertextFormat.

    Where it is a bucket's first-choice object, ``bucket`` says which one's, and ``attestation`` is what stands in its header.
    ``key_id`` is the key that the coprocessors attest, 0 where nobody asked them: then the chain names it.
    """

    handle: bytes
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    format: int
    bucket: str = attrs.field(default="", eq=False)
    attestation: str = attrs.field(default="", eq=False, repr=False)
    key_id: int = 0


@frozen
class Gathered:
    """``found``, for the profile alone, is here: the ciphertexts, one per reference in event order, each with the right digest.

    Of a request without references it is what the profile's query plan came to.
    """

    request: Request
    context_id: int | None
    epoch_id: int | None
    found: Any


@frozen
class Submitted:
    """The Core has it; the payload is released. ``uncertain``: what the Core said instead, if only its result can tell.

    ``existed``: it said that it had the id already. ``reply`` is its result where that came at once. ``over``: contexts and epochs that
    the request has ended besides its own.
    """

    request: Request
    uncertain: str = ""
    existed: bool = attrs.field(default=False, eq=False)
    reply: bytes | None = attrs.field(default=None, repr=False)
    over: frozenset[int] = frozenset()


@frozen
class Answer:
    """What is sent back: the calldata of the reply and the node signer recovered from the Core's signature, where it has one.

    ``mismatch``: what else is not as an honest Core has it, told and not kept.
    """

    calldata: bytes
    signer: Address | None
    mismatch: str = ""


@frozen
class Answered:
    """The Core's answer is verified; None where nothing is replied."""

    request: Request
    answer: Answer | None
