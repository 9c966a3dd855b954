"""Records the requests of one trusted read of a block range, with what moved and left the chain.

Runs in one savepoint; never asks a chain.

The rules (design: ideas 1, 5; outcomes: record). A request is chain, contract, kind, id and digest of its content: an abort has the id
of what it aborts.

1. Content that is known is on chain, at the place where it was read. Nothing of it is run again.
2. Content that is not known is a new request, due at once.
3. An id stands once in a chain for each kind: other content under it is off chain, whenever it moved. That is knowledge, not absence.
4. Hashes judge absence, logs only judge presence: a row that the read leaves out stays. It is off chain where the header at its block has
   another hash, and what is shown there with another hash than the header's comes out of a cache and is not taken. So where a read shows
   anything else than what was known, its blocks are ``doubtful``: the headers are asked for, and the read is recorded once more with them.
5. The flag follows the chain in every state, closed ones too; only open rows are reported as back.
6. The cursor grows or stays. Where something was learned of blocks up to ``passed``, their time begins anew.
7. What was rejected, or ended without a reply, is judged anew in another block: on its old branch the contract may have said so.
8. A read of another generation changes nothing.

Most of what is read was read before, above what is settled: what stands where it stood is told by one look at the whole range.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import attrs

from kmsconn.chain.fork import Checkpoint
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.frozen import frozen
from kmsconn.journal.database import RIDE, Database, off_loop, rides
from kmsconn.journal.moves import NewRequest, insert, move
from kmsconn.journal.queries import ReadUpTo
from kmsconn.journal.rows import appended, line_of, pack_id, pack_log, place_of
from kmsconn.model.life import CLOSED, State
from kmsconn.model.requests import Kind

_KNOWN = (
    "SELECT rid, digest, state, on_chain, block, block_hash, transaction_hash, log_index FROM request "
    "WHERE chain_id = ? AND contract = ? AND id = ? AND kind = ?"
)
_HERE = (
    "UPDATE request SET on_chain = 1, block = ?, block_hash = ?, transaction_hash = ?, log_index = ?, log = ?, cleared = 0, "  # noqa: S608 - of our own literals
    f"history = {appended('?')} WHERE rid = ?"
)
_OFF = f"UPDATE request SET on_chain = 0, history = {appended('?')} WHERE rid = ? AND on_chain = 1"  # noqa: S608
_IN_RANGE = (
    "SELECT rid, id, kind, digest, block, block_hash, transaction_hash, log_index FROM request INDEXED BY request_place "
    "WHERE chain_id = ? AND contract = ? AND on_chain = 1 AND block BETWEEN ? AND ?"
)
REPLACED = (
    "SELECT rid FROM request INDEXED BY request_place WHERE chain_id = ? AND contract = ? AND on_chain = 1 AND block = ? "
    "AND block_hash <> ?"
)
_QUARANTINE = "INSERT INTO quarantined_log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_STANDS = (
    "SELECT (SELECT generation FROM follower WHERE chain_id = :chain), "
    "(SELECT passed FROM cursor WHERE chain_id = :chain AND contract = :contract)"
)
_CURSOR = (
    "INSERT INTO cursor VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (chain_id, contract) DO UPDATE SET block = excluded.block WHERE excluded.block > cursor.block"
)
_ANEW = "UPDATE cursor SET since = ? WHERE chain_id = ? AND contract = ?"
_SETTLE = "UPDATE cursor SET settled = ?, passed = ?, since = ? WHERE chain_id = ? AND contract = ?"
_GENERATION = "SELECT generation FROM follower WHERE chain_id = ?"

_QUARANTINED = "SELECT sum(length(log)) FROM quarantined_log"

LARGEST_UNDECODABLE = 1024 * 1024
"""Bytes of a log that cannot be decoded, and is kept whole: more than any request has."""
UNDECODABLE_BYTES = 16 * 1024 * 1024
"""Of all such logs together: a contract's event may cost its sender little."""
TOPICS = 4  # at most
BEGINNING = 33  # bytes of data: the word that may be an id, and one that makes it nobody's data
LONGEST_REASON = 1024  # characters

LONG_READ = 64  # arrivals: recording so many takes some milliseconds

JUDGED_BY_BLOCK = frozenset({State.REJECTED, State.DONE})

CHECKPOINT = (
    "INSERT INTO checkpoint VALUES (?, ?, ?) ON CONFLICT (chain_id, block) DO UPDATE SET hash = excluded.hash"
)


_Standing = tuple[bytes, str, bytes, int, bytes, bytes, int]
"""Id, kind and digest of a request, and where it stands."""


LogAndReason = tuple[Log, str]
"""A log that cannot be decoded, and why."""


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
    undecodable: Sequence[LogAndReason]
    cursor: int
    generation: int | None
    now: float
    chain_time: float
    expiry: float
    headers: Mapping[int, bytes] = MappingProxyType({})
    head: Checkpoint | None = None


@attrs.define
class Recorded:
    """What a read changed: requests new to the journal with their rows, requests that moved, left the chain, came back."""

    new: tuple[tuple[int, Arrival], ...] = ()
    moved: int = 0
    gone: int = 0
    back: tuple[tuple[int, Arrival], ...] = ()
    quarantined: tuple[LogAndReason, ...] = ()
    """Those of the undecodable logs that are new to the journal."""
    doubtful: frozenset[int] = frozenset()
    """Blocks whose headers tell what the read alone does not: what it shows of them is not what was known."""
    clean: bool = True
    """Nothing was learned of blocks that were read before."""
    outdated: bool = False
    """The chain has another generation: nothing was changed."""


@attrs.frozen
class _Known:
    rid: int
    digest: bytes
    state: str
    on_chain: int
    place: tuple[int, bytes, bytes, int]


@rides(lambda recorded, _read: RIDE if recorded == Recorded() else 0.0)  # how far it went is read again
@off_loop(lambda read: len(read.arrivals) > LONG_READ)
def record(db: Database, read: Read) -> Recorded:
    """Take a trusted read: new rows, moves, ``on_chain`` flags, quarantined logs and the cursor, all or nothing ①.

    Known content at another place is moved, and nothing is run again; other content under a known id is another request, and the
    old one is off chain. So is a row of a block that has another header, whatever its state.
    Repeating: the same read again changes nothing.
    """
    with db.savepoint():
        return _record(db, read)


def _record(db: Database, read: Read) -> Recorded:
    generation, passed = db.execute(_STANDS, {"chain": read.chain_id, "contract": read.contract}).fetchone()
    if read.generation not in {None, generation or 0}:
        return Recorded(outdated=True)
    changes, of = Recorded(), (read.chain_id, read.contract)
    found = db.execute(_IN_RANGE, (*of, *read.blocks))
    unmoved = {tuple(standing): rid for rid, *standing in found}  # before anything is changed
    shown = _true(read, changes) if read.headers else read.arrivals
    moved = [one for one in _last_of_each_id(shown) if unmoved.pop(_standing(one), None) is None]
    _take(db, read, moved, changes)
    for number, header in read.headers.items():
        replaced = db.execute(REPLACED, (*of, number, header)).fetchall()
        _drop(db, [rid for (rid,) in replaced], changes)
    # only headers judge what is absent
    changes.doubtful |= {block for *_, block, _, _, _ in unmoved} - read.headers.keys()
    if read.undecodable:
        changes.quarantined = _quarantine(db, read)
    changes.clean &= not (unmoved or changes.doubtful or changes.gone)
    changes.clean &= passed is None or _is_above(passed, changes)
    db.execute(_CURSOR, (*of, read.cursor, read.blocks[0] - 1, read.blocks[0] - 1, read.chain_time))
    if not changes.clean:
        db.execute(_ANEW, (read.chain_time, *of))
    if read.head is not None:
        db.execute(CHECKPOINT, (read.chain_id, read.head.number, read.head.hash))
    return changes


def generation(db: Database, chain_id: int) -> int:
    """Return how often a chain was found to have forked."""
    found = db.execute(_GENERATION, (chain_id,)).fetchone()
    return 0 if found is None else int(found[0])


def begin(db: Database, chain_id: int, contract: Address, at: ReadUpTo, first: Checkpoint | None) -> None:
    """Let the reading of a contract begin that was never read, and keep the block below which nothing is. Repeating: changes nothing."""
    db.execute(_CURSOR, (chain_id, contract, at.next_block, at.settled, at.passed, at.since))
    if first is not None:
        db.execute(CHECKPOINT, (chain_id, first.number, first.hash))


def settle(db: Database, chain_id: int, contract: Address, of: int, at: ReadUpTo) -> bool:
    """Settle blocks in the generation ``of`` of the chain; False where it has another one. The cursor stays."""
    if of != generation(db, chain_id):
        return False
    return db.execute(_SETTLE, (at.settled, at.passed, at.since, chain_id, contract)).rowcount > 0


def _true(read: Read, changes: Recorded) -> Iterator[Arrival]:
    """Yield what the read shows, without what the headers that are known do not have."""
    for arrival in read.arrivals:
        if read.headers.get(arrival.log.block_number, arrival.log.block_hash) == arrival.log.block_hash:
            yield arrival
        else:
            changes.clean = False


def _is_above(passed: int, changes: Recorded) -> bool:
    """Say whether a read tells only of blocks above this one; what was known at another place is of before."""
    news = [arrival.log.block_number for _, arrival in changes.new]
    news += [log.block_number for log, _ in changes.quarantined]
    return not (changes.moved or changes.back) and all(block > passed for block in news)


def _standing(arrival: Arrival) -> _Standing:
    return pack_id(arrival.id), arrival.kind.value, arrival.digest, *place_of(arrival.log)


def _last_of_each_id(arrivals: Iterable[Arrival]) -> Iterable[Arrival]:
    # A node in the middle of a reorganisation may show two contents of one id: only the later place can be right.
    # Within a block two logs of one id are two forms of the same request, in whatever order: the one that says more counts.
    ordered = sorted(
        arrivals, key=lambda arrival: (arrival.log.block_number, arrival.whole, arrival.log.log_index)
    )
    return {(arrival.kind, arrival.id): arrival for arrival in ordered}.values()


def _take(db: Database, read: Read, arrivals: Sequence[Arrival], changes: Recorded) -> None:
    """Take arrivals that do not stand where they stood, each with an id of its own; what contradicts what was known needs a header."""
    new: list[Arrival] = []
    keys = ((read.chain_id, read.contract, pack_id(one.id), one.kind.value) for one in arrivals)
    for arrival, stored in zip(arrivals, db.fetch_each(_KNOWN, keys), strict=True):
        known = [_Known(rid, digest, state, on, tuple(place)) for rid, digest, state, on, *place in stored]
        if known and arrival.log.block_number not in read.headers:
            changes.doubtful |= {arrival.log.block_number, *(row.place[0] for row in known if row.on_chain)}
            continue
        _drop(db, [row.rid for row in known if row.digest != arrival.digest and row.on_chain], changes)
        same = next((row for row in known if row.digest == arrival.digest), None)
        if same is None:
            new.append(arrival)
        else:
            _place(db, read, same, arrival, changes)
    of, until = (read.chain_id, read.contract), read.chain_time + read.expiry
    requests = [
        NewRequest(*of, one.id, one.kind, one.digest, one.log, until if one.expires else math.inf, read.now)
        for one in new
    ]
    changes.new = tuple(zip(insert(db, requests), new, strict=True))


def _place(db: Database, read: Read, row: _Known, arrival: Arrival, changes: Recorded) -> None:
    place = place_of(arrival.log)
    if row.on_chain and row.place == place:
        return
    db.tick = db.answers_tick = db.tick + 1
    line = line_of(read.now, "moved", f"block {arrival.log.block_number}")
    db.execute(_HERE, (*place, pack_log(arrival.log), line, row.rid))
    changes.moved += row.place != place
    judged = row.place[:2] != place[:2] and row.state in JUDGED_BY_BLOCK
    again = judged and any(  # back to its answer, where one is kept
        move(db, step, row.rid, next_attempt=read.now, reason="in another block")
        for step in ("reoffer", "rejudge")
    )
    if again or (not row.on_chain and row.state not in CLOSED):
        changes.back += ((row.rid, arrival),)


def _drop(db: Database, rids: Iterable[int], changes: Recorded) -> None:
    for rid in rids:
        db.tick = db.answers_tick = db.tick + 1
        changes.gone += db.execute(_OFF, (line_of(db.wall(), "gone"), rid)).rowcount


def _quarantine(db: Database, read: Read) -> tuple[LogAndReason, ...]:
    found: list[LogAndReason] = []
    room = UNDECODABLE_BYTES - (db.execute(_QUARANTINED).fetchone()[0] or 0)
    for log, reason in read.undecodable:
        block, block_hash, transaction_hash, log_index = place_of(log)
        where = (read.chain_id, block_hash, log_index, read.contract, block, transaction_hash)
        said, why = _bounded(log, reason, min(LARGEST_UNDECODABLE, room))
        if db.execute(_QUARANTINE, (*where, said, why, read.now)).rowcount:
            found.append((log, reason))
            room -= len(said)
    return tuple(found)


def _bounded(log: Log, reason: str, limit: int) -> tuple[bytes, str]:
    """Return what is kept of a log, and why it cannot be decoded; beyond the limit its beginning, which can be no request."""
    said = pack_log(log)
    if len(said) <= limit:
        return said, reason[:LONGEST_REASON]
    beginning = pack_log(attrs.evolve(log, topics=log.topics[:TOPICS], data=log.data[:BEGINNING]))
    return beginning, f"{reason[:LONGEST_REASON]}; of its {len(said)} bytes only the beginning is kept"
