"""What the journal promises.

One writer: every operation below is applied in order of its call, whole or not at all, several in one commit; when the call returns,
what it did is durable (except ``note_submitted``, which may be lost and only costs a repetition).

Operations that move a request return whether it moved: False means that the row was no longer in a state that allows it, and
nothing was changed. Wall times are Unix seconds of ``Ports.wall``; chain times are block timestamps.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import attrs

from kmsconn.chain.checkpoints import Checkpoints
from kmsconn.errors import NonceTaken
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.logs import Log
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.model.steps import Answer


@attrs.frozen
class Arrival:
    """A request as it stands in one log: the id and kind of its content, the digest that tells it from others under that id.

    ``expires``: it is given up at ``Read.expiry``. ``whole``: the log says all that a log can say; one of several for the same
    content is kept, rather a whole one.
    """

    id: int
    kind: Kind
    digest: bytes
    log: Log
    expires: bool = True
    whole: bool = True


@attrs.frozen
class Read:
    """What one trusted read of a block range of one contract saw: everything there, nothing else.

    ``asked`` is the value of ``Journal.tick`` when the question was sent: rows that moved since are not judged by this read.
    ``cursor`` is the first block not read yet; a read never takes it back. ``now`` wall, ``chain_time`` the head's timestamp.
    ``keep`` and ``forget`` are block hashes to remember from now on, and the numbers of those that are not needed any more.
    """

    chain_id: int
    contract: Address
    from_block: int
    to_block: int
    arrivals: Sequence[Arrival]
    undecodable: Sequence[tuple[Log, str]]
    cursor: int
    asked: int
    now: float
    chain_time: float
    expiry: float
    keep: Checkpoints = ()
    forget: Sequence[int] = ()


@attrs.frozen
class Reread:
    """What was asked to be read once more, from ``from_block`` to ``to_block``; everything below ``next_block`` is done."""

    from_block: int
    next_block: int
    to_block: int


@attrs.frozen
class Rewound:
    """What a rewind changed: replies that are not final any more, requests that left the chain with their blocks."""

    reopened: int = 0
    gone: int = 0


@attrs.frozen
class Recorded:
    """What a read changed: requests new to the journal with their rows, requests that moved, left the chain, came back."""

    new: tuple[tuple[int, Arrival], ...] = ()
    moved: int = 0
    gone: int = 0
    back: tuple[tuple[int, Arrival], ...] = ()
    quarantined: int = 0


@attrs.frozen
class Place:
    """A request's id with the block where it stands."""

    id: int
    block: int


@attrs.frozen
class Row:
    """A request as stored. ``log`` is the whole event; ``deadline`` in chain time, infinite for what never expires.

    ``deferred`` counts deferrals in a row.
    """

    rid: int
    chain_id: int
    contract: Address
    id: int
    digest: bytes
    kind: Kind
    state: State
    on_chain: bool
    log: Log
    next_attempt: float
    deadline: float
    submitted: bool
    deferred: int
    reason: str
    answer: Answer | None
    nonce: int | None
    raw: bytes | None
    reply_hash: bytes | None
    included_block: int | None
    recorded_at: float
    answered_at: float | None
    closed_at: float | None = None


@attrs.frozen
class Wanted:
    """Which requests an operator wants: of these kinds and states (none: all), whose reason holds ``cause``, in whatever case."""

    kinds: frozenset[Kind] = frozenset()
    states: frozenset[State] = frozenset()
    cause: str = ""


@attrs.frozen
class Found:
    """Rows that are wanted, the newest first, and below which row number the look goes on; None: there are no more."""

    rows: tuple[Row, ...]
    before: int | None


@attrs.frozen
class Signing:
    """Signed bytes for the reply of a row, with their nonce and hash."""

    rid: int
    nonce: int
    raw: bytes
    reply_hash: bytes


@attrs.frozen
class Shards:
    """Some of the ``count`` parts that share the requests by their ids: ``chosen`` ones of the numbers id mod ``count``."""

    count: int = 1
    chosen: frozenset[int] = frozenset()


NO_SHARDS = Shards()


@attrs.frozen
class Waiting:
    """An open request that has waited since ``since`` (wall time), and what it last waited for."""

    rid: int
    kind: Kind
    id: int
    since: float
    reason: str


@attrs.frozen
class Ending:
    """How a request ended, or that its reply is included, and why it is not done."""

    rid: int
    id: int
    state: State
    reason: str


@attrs.frozen
class Due:
    """Rows to work on now, best first, and when the next one after them is due (wall time; None: nothing waits)."""

    rows: tuple[Row, ...]
    next_due: float | None


@attrs.frozen
class Queued:
    """A row that waits for its turn, and whether its time has come."""

    row: Row
    due: bool


@attrs.frozen
class Counts:
    """Rows by kind and state, deferred ones by kind, the age of the oldest open one by kind in seconds, quarantined logs.

    ``deleted`` are rows that retention has taken out since the journal was made, by kind and the state they were in.
    """

    states: Mapping[tuple[Kind, State], int]
    deferred: Mapping[Kind, int]
    oldest: Mapping[Kind, float]
    off_chain: int
    quarantined_logs: int
    deleted: Mapping[tuple[Kind, State], int] = attrs.field(factory=dict)


@attrs.frozen
class Retention:
    """What may leave the journal.

    Closed rows lose their long values when they ended before ``clear_before``, and go when they ended before ``delete_before`` (wall
    times; None: they stay). ``final`` is the last block of each chain, by its id, that no reorganisation replaces any more; rows above
    it stay, and so do those of a chain that is not named. Rows of the kinds that are ``numbered`` go only below the low-water mark.
    """

    clear_before: float | None
    delete_before: float | None
    final: Mapping[int, int]
    numbered: frozenset[Kind] = frozenset()


@attrs.frozen
class Position:
    """How far a round of retention has come."""

    sweep: int = 0
    ended: float = -math.inf
    rid: int = 0


@attrs.frozen
class Retained:
    """What one step of retention did: rows cleared and deleted, pages of the file given back; where the next one goes on, if anywhere."""

    position: Position | None
    cleared: int = 0
    deleted: int = 0
    pages: int = 0


class Journal(Protocol):
    """The memory of one connector."""

    @property
    def tick(self) -> int:
        """A number that grows with every operation that moves a row; see ``Read.asked``."""
        ...

    @property
    def failure(self) -> str:
        """Why the last group could not be written; empty when the last one that changed anything was."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know about where the journal is kept, one sentence each."""
        ...

    @property
    def damaged(self) -> Mapping[int, str]:
        """The rows that could not be read in this run, with the reasons: each is quarantined, and the rest goes on."""
        ...

    async def misplaced(self) -> str:
        """Say whether the journal's files were removed or replaced meanwhile; empty when they are in place.

        While they are not, nothing is recorded: every operation that changes something raises JournalFailed.
        """
        ...

    # --- intake

    async def cursor(self, chain_id: int, contract: Address) -> int | None:
        """Return the first block not read yet, or None for a contract never read."""
        ...

    async def record(self, read: Read) -> Recorded:
        """Take a trusted read: new rows, moves, ``on_chain`` flags, quarantined logs and the cursor, all or nothing ①.

        Known content at another place is moved, and nothing is run again; other content under a known id is another request, and the
        old one is off chain. A row of that range which the read does not hold is off chain, whatever its state.
        Repeating: the same read again changes nothing.
        """
        ...

    async def checkpoints(self, chain_id: int, contract: Address) -> Checkpoints:
        """Return the block hashes that are kept for a contract, the lowest first."""
        ...

    async def standing(
        self, chain_id: int, contract: Address, blocks: tuple[int, int], limit: int
    ) -> Checkpoints:
        """Return the first ``limit`` blocks, of a range with both ends included, where requests on chain stand, as they were read."""
        ...

    async def reread(self, chain_id: int, contract: Address) -> Reread | None:
        """Return what of a contract is, or was, to be read once more."""
        ...

    async def note_reread(self, chain_id: int, contract: Address, reread: Reread) -> None:
        """Remember what is to be read once more, and how far that is done."""
        ...

    async def rewind(self, chain_id: int, contract: Address, fork: int, head: int) -> Rewound:
        """Go back to a fork: what stands above it is read again.

        The cursor, and the blocks to ask about included replies, fall to the fork; block hashes above it are forgotten. Final replies
        above it, or to requests above it, are included only, so that the contract is asked again. Requests above the new ``head``
        are off chain. All or nothing. Repeating: changes nothing.
        """
        ...

    async def doubted(self, chain_id: int, contract: Address, from_block: int, limit: int) -> tuple[int, ...]:
        """Return the blocks, from ``from_block`` on, where open requests stood that are off chain now; the newest first."""
        ...

    # --- pool side

    async def due(
        self,
        kinds: Collection[Kind],
        now: float,
        limit: int,
        busy: Collection[int],
        *,
        without: Shards = NO_SHARDS,
    ) -> Due:
        """Return up to ``limit`` PENDING rows of ``kinds`` that are on chain, due and not ``busy``, by (next_attempt, block, log index).

        Rows of the shards ``without`` are left out, also of when the next one is due.
        A ``next_attempt`` further away than the longest back-off (60 s, or the second chance of an hour for rows so deferred) is due: the
        clock was set back.
        """
        ...

    async def in_order(self, kinds: Collection[Kind], now: float, limit: int) -> tuple[Queued, ...]:
        """Return the first ``limit`` PENDING rows of ``kinds`` that are on chain, by (block, log index), due or not; due as in ``due``."""
        ...

    def note_submitted(self, rid: int, submitted: bool) -> None:
        """Remember that the Core has the request (or has forgotten it).

        Becomes durable with its deferral, or with the first commit after a second: before that it is mostly answered, and worth nothing.
        """
        ...

    async def answer(self, rid: int, answer: Answer, now: float) -> bool:
        """PENDING → ANSWERED ②."""
        ...

    async def defer(
        self, rid: int, next_attempt: float, reason: str, *, max_wait: float = 60.0, again: bool = True
    ) -> bool:
        """Keep a PENDING or ANSWERED row for later; ``max_wait`` caps the wait of this row. Not ``again``: ``deferred`` begins anew."""
        ...

    async def close(self, rid: int, transition: str, reason: str, *, block: int | None = None) -> bool:
        """Apply ``expire``, ``reject``, ``quarantine``, ``found_finalized``, ``finish`` or ``abort`` of ``model.life``.

        ``block``: the head when a reply was found, which is not below its block; a reorganisation below has it looked for again.
        """
        ...

    async def found_included(self, rid: int, verify_block: int) -> bool:
        """PENDING or ANSWERED → INCLUDED: the contract says that this node has answered already."""
        ...

    async def has_sibling(self, rid: int) -> bool:
        """Say whether other content is known under the same chain, contract, kind and id."""
        ...

    # --- lane side

    async def answered(self, chain_id: int, now: float, limit: int) -> Due:
        """Return ANSWERED rows of a chain that are on chain and due, oldest request first."""
        ...

    async def signed(self, chain_id: int) -> tuple[Row, ...]:
        """Return all SIGNED rows of a chain in nonce order, on chain or not."""
        ...

    async def included(
        self, chain_id: int, up_to_block: int, limit: int, *, from_block: int = 0
    ) -> tuple[Row, ...]:
        """Return INCLUDED rows whose inclusion (or verify) block is from ``from_block`` to ``up_to_block``, the lowest first."""
        ...

    async def included_from_nonce(self, chain_id: int, nonce: int, limit: int) -> tuple[Row, ...]:
        """Return INCLUDED rows whose bytes have this nonce or a higher one, the newest block first."""
        ...

    async def sign(self, signings: Sequence[Signing]) -> list[bool | NonceTaken]:
        """ANSWERED → SIGNED with a nonce ③, or other bytes (and perhaps another nonce) for a SIGNED row; in this order, in one commit.

        NonceTaken stands for one whose nonce another SIGNED row of the chain holds.
        """
        ...

    async def release(self, rid: int, next_attempt: float, reason: str) -> bool:
        """SIGNED → ANSWERED: the nonce was taken by another transaction, or the reply was mined with status 0."""
        ...

    async def confirm(self, inclusions: Sequence[tuple[int, int]]) -> list[bool]:
        """SIGNED → INCLUDED ④, rows with their blocks, in one commit; the nonce is free for nobody, the signed bytes stay."""
        ...

    async def finalize(self, rids: Sequence[int]) -> list[bool]:
        """INCLUDED → FINALIZED, in one commit: the contract still says so ⑤."""
        ...

    async def unland(self, rid: int, transition: str, reason: str) -> bool:
        """INCLUDED → ANSWERED (``resend``, when an answer is kept) or PENDING (``restart``): the reply is gone from the chain."""
        ...

    async def answered_after(self, chain_id: int, after: tuple[int, int], limit: int) -> tuple[Row, ...]:
        """Return ANSWERED rows of a chain that are on chain, due or not, by (block, log index), those that stand behind ``after``."""
        ...

    # --- looking at it

    async def places(
        self, chain_id: int, contract: Address, kind: Kind, ids: tuple[int, int], limit: int
    ) -> tuple[Place, ...]:
        """Return the first ``limit`` requests of a kind on chain in the order of their ids, from the first to the last of ``ids``."""
        ...

    async def quarantined(self, chain_id: int, contract: Address) -> tuple[Log, ...]:
        """Return the logs of a contract that could not be decoded."""
        ...

    async def low_water(self, chain_id: int, contract: Address, kind: Kind) -> Place | None:
        """Return up to which request of a kind all are known, whatever rows are left of them; None before it was said."""
        ...

    async def raise_low_water(self, chain_id: int, contract: Address, kind: Kind, place: Place) -> None:
        """Remember that all requests of a kind up to this one are known. It must be final on its chain.

        Repeating: a lower one than before changes nothing.
        """
        ...

    async def retain(self, plan: Retention, at: Position) -> Retained:
        """Take a bounded step of retention: clear or delete some rows that are not needed, give some free pages of the file back.

        Repeating: what is gone is not found again.
        """
        ...

    async def waiting(self, kinds: Collection[Kind], before: float, limit: int) -> tuple[Waiting, ...]:
        """Return the first ``limit`` open requests of ``kinds`` that are on chain and were recorded ``before`` (wall time)."""
        ...

    async def endings(self, kind: Kind, limit: int) -> tuple[Ending, ...]:
        """Return how requests of a kind of key management that are on chain ended, those that stand last first.

        Done are ``included``, ``replied`` and ``done``; undone ``rejected`` and ``quarantined``. What is in work is left out.
        """
        ...

    async def counts(self, now: float) -> Counts:
        """Return what health and metrics show."""
        ...

    async def find(self, wanted: Wanted, before: int | None, limit: int) -> Found:
        """Return the newest rows that are wanted below a row number (None: of all); a look may find none and yet not be at the end."""
        ...

    async def of_id(self, identifier: int) -> tuple[Row, ...]:
        """Return all rows of an on-chain id: other kinds, contracts and contents have rows of their own."""
        ...

    async def retry(self, rid: int, now: float, deadline: float) -> None:
        """Let a rejected, expired or quarantined request begin again, as if recorded now; ``deadline`` in chain time.

        Raises RetryError with the reason why it does not. Repeating: the second time it is pending, and says so.
        """
        ...

    async def row(self, rid: int) -> Row | None:
        """Return one row."""
        ...
