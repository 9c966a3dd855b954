"""What happens, as values for the one synchronous ``on_event`` hook. An event has a name and fields, not a sentence.

The hook must not block and must not raise: an exception of it ends the connector. No field ever holds a secret. ``rid`` is a request's
row in the journal, ``id`` its id on the chain.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import attrs

from kmsconn.ethereum.addresses import Address
from kmsconn.frozen import frozen
from kmsconn.model.causes import cause_of
from kmsconn.model.life import State
from kmsconn.model.requests import NO_BLOCK, Kind


@frozen
class Event:
    """What happened."""


@frozen
class EventOfRequest(Event):
    """What happened to one request. Its row is compared, its on-chain id is not; None: not told."""

    rid: int
    kind: Kind
    id: int | None = attrs.field(default=None, eq=False, kw_only=True)


@frozen
class RequestRecorded(EventOfRequest):
    """A request is new to the journal and durable."""

    id: int
    chain_id: int
    block: int
    transaction_hash: bytes
    log_index: int

    @property
    def over_http(self) -> bool:
        """Whether it came over HTTP, so that it stands in no block."""
        return self.block == NO_BLOCK


@attrs.frozen
class RequestsMoved(Event):
    """A read found known requests at other places, off the chain, or back on it."""

    chain_id: int
    moved: int
    gone: int
    back: int


@attrs.frozen
class ChainReorganised(Event):
    """A chain has left the blocks that were read of it: reading begins again above ``fork``.

    ``depth``: how many blocks above the fork had been read. ``reopened``: replies that went back with their blocks.
    """

    chain_id: int
    fork: int
    depth: int
    reopened: int


@attrs.frozen
class LogQuarantined(Event):
    """A log of a listened contract and topic0 could not be decoded; its bytes are kept. ``kind``: the request that its topic announces."""

    chain_id: int
    contract: Address
    block: int
    log_index: int
    reason: str
    kind: Kind | None = None


@attrs.frozen
class UnknownRequestsHeard(Event):
    """A contract numbered ``count`` requests under a topic that this version does not know, the last one of them in ``block``.

    Each is reported once by a process, and again if a reorganisation moved it to another block.
    """

    chain_id: int
    contract: Address
    kind: Kind
    topic: bytes
    count: int
    block: int


@attrs.frozen
class CursorMoved(Event):
    """Everything of a contract below ``block`` is durable; ``head`` is the head seen with it."""

    chain_id: int
    contract: Address
    block: int
    head: int

    @property
    def lag(self) -> int:
        """Blocks between what is durable and the head."""
        return max(0, self.head + 1 - self.block)


@attrs.frozen
class BackfillProgressed(Event):
    """The back-fill of a contract has read ``done`` of ``blocks`` blocks; told at most every ten seconds, and at its end."""

    chain_id: int
    contract: Address
    done: int
    blocks: int


@frozen
class StageFinished(EventOfRequest):
    """A stage of a request succeeded after ``seconds``."""

    stage: str
    seconds: float


@attrs.frozen
class StageFailed(EventOfRequest):
    """A pass of a stage of a request did not succeed, by a stable ``cause`` (``denied``, ``unreachable``); what becomes of it follows."""

    stage: str
    cause: str
    seconds: float = attrs.field(default=0.0, eq=False)


@attrs.frozen
class RequestDeferred(EventOfRequest):
    """A request waits in the journal for ``seconds``; its worker is free."""

    stage: str
    reason: str
    seconds: float


@attrs.frozen
class RequestClosed(EventOfRequest):
    """A request ended without a reply: expired, rejected or quarantined; ``cause`` is a stable slug for the reason.

    ``told``: who asked for it waits for that over HTTP.
    """

    state: State
    reason: str
    cause: str = "other"
    told: bool = attrs.field(default=False, eq=False, kw_only=True)


@frozen
class AnswerKept(EventOfRequest):
    """The Core's answer is verified and kept; ``seconds`` since it was recorded (wall time)."""

    seconds: float


@attrs.frozen
class AnswerMismatch(EventOfRequest):
    """An answer is signed as it should be and is sent, but something else in it is not as an honest Core has it."""

    reason: str


@frozen
class ReplySigned(EventOfRequest):
    """A reply has a nonce and durable bytes."""

    nonce: int
    transaction_hash: bytes


@frozen
class ReplySent(EventOfRequest):
    """A reply was handed to a node of a chain; ``seconds`` since its answer was durable (wall time), None after a restart."""

    nonce: int
    seconds: float | None
    chain: str = "gateway"


@attrs.frozen
class ForeignTransaction(Event):
    """A transaction that this node's account signed is in a block of a chain, and this process did not sign it."""

    chain: str
    nonce: int
    transaction_hash: bytes
    block: int


@frozen
class ReplyIncluded(EventOfRequest):
    """A reply of this node is in the chain. ``seconds`` since it was recorded; ``found`` when the contract knew it before we sent.

    ``transaction_hash`` is that of this node's transaction, None where it is not known which one it was.
    """

    block: int
    seconds: float
    found: bool = False
    transaction_hash: bytes | None = None


@attrs.frozen
class ReplyFinalized(EventOfRequest):
    """An included reply is older than the reorg window and the contract still knows it."""


@attrs.frozen
class ReplyReturned(EventOfRequest):
    """A signed or included reply goes back: its nonce was taken, it was mined with status 0, its block is gone."""

    state: State
    reason: str
    chain: str = "gateway"
    nonce_taken: bool = False
    """Another transaction used its nonce."""


@attrs.frozen
class ReplyCompared(EventOfRequest):
    """A shadow has compared its reply with the one that another connector sent for this node (shadow mode).

    ``likeness``: ``equal``, ``recomputed`` (the Core computed twice, and only random bytes or a signature differ), or ``different``.
    ``seconds`` from this connector's answer to the inclusion of the other's reply: negative where the other one was faster. The first
    difference: ``at`` is its offset in the calldata (None: there is none), ``field`` the argument, ``ours`` and ``theirs`` the bytes there.
    """

    likeness: str
    seconds: float
    block: int
    transaction_hash: bytes
    at: int | None = None
    field: str | None = None
    ours: str | None = None
    theirs: str | None = None


@attrs.frozen
class ReplyUnmatched(EventOfRequest):
    """Another connector replied, and this one has nothing to compare: here the request ended without an answer, or it was not seen."""

    state: State
    reason: str


@attrs.frozen
class ReplyMissing(EventOfRequest):
    """No connector sent a reply of this node until the request's deadline, although this one has an answer (shadow mode)."""

    seconds: float


@attrs.frozen
class CiphertextMismatch(Event):
    """A bucket holds other bytes for a ciphertext than the chain names; the next is asked, or they are used where that is configured."""

    handle: bytes
    reason: str


@attrs.frozen
class AttestationMismatch(Event):
    """The quorum of coprocessors does not stand behind a ciphertext as the chain names it; nothing else comes of it (shadow mode)."""

    handle: bytes
    reason: str


@attrs.frozen
class HttpAnswered(Event):
    """A request over HTTP has ended: its path, the status and code of its answer, whose key it had, and how long the answer took.

    ``code``: ``ok``, that of a failure, or why there was none of both; ``client``: the id of the key, empty without one.
    """

    route: str
    status: int
    code: str
    client: str
    seconds: float
    id: int | None = attrs.field(default=None, eq=False, kw_only=True)


class Severity(StrEnum):
    """How bad an alert is: a critical one stops requests until something changes, a warning is waited out."""

    CRITICAL = "critical"
    WARNING = "warning"


@attrs.frozen
class AlertRaised(Event):
    """Something is wrong with a dependency, for one cause; raised once, and again when what it says has changed.

    ``dependency`` is named as operators do (``gateway``, ``core[0]``, ``bucket …``, ``journal``, ``txmanager gateway``), ``cause`` is a
    stable slug (``unreachable``, ``wrong-signer``); together they are the identity of an alert. ``remedy`` says what to do about it; it
    and ``severity`` are those of the cause unless given. ``count`` is how many requests it concerns.
    """

    dependency: str
    cause: str
    text: str
    severity: Severity = attrs.field()
    remedy: str = attrs.field()
    count: int = 1

    @severity.default
    def _usual_severity(self) -> Severity:
        return Severity.CRITICAL if cause_of(self.cause).critical else Severity.WARNING

    @remedy.default
    def _usual_remedy(self) -> str:
        return cause_of(self.cause).remedy

    @property
    def critical(self) -> bool:
        """Whether requests cannot be answered until something changes."""
        return self.severity is Severity.CRITICAL


@attrs.frozen
class AlertCleared(Event):
    """An alert is over."""

    dependency: str
    cause: str


OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Take an event and do nothing."""
