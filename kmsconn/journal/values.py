"""What operations of the journal take and return. Never opens a database.

Wall times are Unix seconds of ``Ports.wall``; chain times are block timestamps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import attrs

from kmsconn.chain.fork import Checkpoint
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.frozen import frozen
from kmsconn.model.life import RowCause, State
from kmsconn.model.requests import NO_BLOCK, Kind
from kmsconn.model.steps import Answer


@frozen
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

    ``generation`` is that of the chain (``chain.follower``) when the question was sent; in another one nothing of the read counts,
    unless it is None.
    ``blocks`` are the first and the last one. ``cursor`` is the first block not read yet; a read never takes it back. ``now`` wall,
    ``chain_time`` the head's timestamp.
    ``headers``: the hashes of some of the blocks as the chain has them. ``head`` is to be kept from now on.
    """

    chain_id: int
    contract: Address
    blocks: tuple[int, int]
    arrivals: Sequence[Arrival]
    undecodable: Sequence[tuple[Log, str]]
    cursor: int
    generation: int | None
    now: float
    chain_time: float
    expiry: float
    headers: Mapping[int, bytes] = MappingProxyType({})
    head: Checkpoint | None = None


@attrs.frozen
class ReadUpTo:
    """How far a contract is read: all blocks below ``next_block``. Blocks up to ``settled`` are never read again.

    Those up to ``passed`` were read before ``since`` (chain time), and nothing was learned of them after it.
    """

    next_block: int
    settled: int
    passed: int
    since: float


@attrs.frozen
class Reread:
    """What was asked to be read once more, from ``from_block`` to ``to_block``; everything below ``next_block`` is done."""

    from_block: int
    next_block: int
    to_block: int


@attrs.frozen
class Recorded:
    """What a read changed: requests new to the journal with their rows, requests that moved, left the chain, came back."""

    new: tuple[tuple[int, Arrival], ...] = ()
    moved: int = 0
    gone: int = 0
    back: tuple[tuple[int, Arrival], ...] = ()
    quarantined: int = 0
    doubtful: tuple[int, ...] = ()
    """Blocks whose headers tell what the read alone does not: what it shows of them is not what was known."""
    clean: bool = True
    """Nothing was learned of blocks that were read before."""
    outdated: bool = False
    """The chain has another generation: nothing was changed."""


@attrs.frozen
class JournalPlace:
    """A request's id with the block where it stands."""

    id: int
    block: int


@frozen
class RowEvent:
    """The event of a request as stored: of which contract, the whole log, and the digest of its content."""

    chain_id: int
    contract: Address
    digest: bytes
    log: Log


@frozen
class RowProgress:
    """How far the work on a request has come, and what it waits for. ``deferred`` counts deferrals in a row.

    ``deadline`` is in chain time, infinite for what never expires. ``submitted``: the Core has the request.
    ``reason`` is for people; what decides is the ``cause``. ``choice`` is what the operation chose for every start of the request.
    """

    next_attempt: float
    deadline: float
    submitted: bool
    deferred: int
    reason: str
    cause: RowCause = RowCause.NONE
    choice: str = ""


@frozen
class RowReply:
    """The reply to a request as far as it has come: nonce, signed bytes and their hash, and the block that has it."""

    nonce: int | None = None
    raw: bytes | None = None
    hash: bytes | None = None
    included_block: int | None = None


@frozen
class RowTimes:
    """When a request was recorded, answered and ended, in wall time."""

    recorded: float
    answered: float | None = None
    closed: float | None = None


@frozen
class Row:
    """A request as stored. ``answer`` is what the Core said, once it is durable."""

    rid: int
    id: int
    kind: Kind
    state: State
    on_chain: bool
    event: RowEvent
    progress: RowProgress
    answer: Answer | None
    reply: RowReply
    times: RowTimes

    @property
    def over_http(self) -> bool:
        """Whether it came over HTTP and not from a chain: its answer goes to who asks and not to a contract."""
        return self.event.log.block_number == NO_BLOCK


@attrs.frozen
class Wanted:
    """Which requests an operator wants: of these kinds and states (none: all), whose reason holds ``cause``, in whatever case."""

    kinds: frozenset[Kind] = frozenset()
    states: frozenset[State] = frozenset()
    cause: str = ""


@attrs.frozen
class FoundRows:
    """Rows that are wanted, the newest first, and below which row number the look goes on; None: there are no more."""

    rows: tuple[Row, ...]
    before: int | None


@frozen
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
class Due:
    """Rows to work on now, best first, and when the next one after them is due (wall time; None: nothing waits)."""

    rows: tuple[Row, ...]
    next_due: float | None


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
class RetentionStep:
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
