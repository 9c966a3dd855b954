"""Records requests: those of one trusted read of a block range, with what moved and left the chain, and those that come over HTTP.

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

What comes over HTTP is one row for ever: its id is the hash of all that it says. So whoever posts it, and however often, is told of the
same work: one operation inserts it, finds it in work or ended, or lets it begin again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import attrs

from kmsconn.chain.fork import Checkpoint
from kmsconn.errors import KmsconnError
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.frozen import frozen
from kmsconn.journal.database import Database, off_loop
from kmsconn.journal.moves import LONGEST_WAIT, move
from kmsconn.journal.rows import RESIDUES, appended, line_of, pack_id, pack_log, place_of, read_one
from kmsconn.journal.values import Arrival, Read, ReadUpTo, Recorded, Row
from kmsconn.model.life import CLOSED, State
from kmsconn.model.requests import Kind

if TYPE_CHECKING:
    from sqlite3 import Cursor

_NEW = (
    "INSERT INTO request (chain_id, contract, id, digest, kind, state, on_chain, block, block_hash, transaction_hash, log_index, "
    "next_attempt, max_wait, deadline, recorded_at, log, residue) "
    "VALUES (?, ?, ?, ?, ?, 'pending', 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_RETURNING = f"{_NEW} RETURNING rid"


@frozen
class NewRequest:
    """A request with its identity, its content as a log, and until when (chain time) its answer is of use. ``now`` is the wall time."""

    chain_id: int
    contract: Address
    id: int
    kind: Kind
    digest: bytes
    log: Log
    deadline: float
    now: float


def insert(db: Database, new: NewRequest) -> int:
    """Insert a request as pending and on chain, due at once, and return its row."""
    return insert_all(db, [new])[0]


def insert_all(db: Database, requests: Iterable[NewRequest]) -> list[int]:
    """Insert requests as pending and on chain, due at once, and return their rows in the same order."""
    values = (_values(db, new) for new in requests)
    if db.driver.is_remote:
        return [rid for ((rid,),) in db.fetch_each(_RETURNING, values)]
    return [
        cast("Cursor", db.execute(_NEW, one)).lastrowid or 0 for one in values
    ]  # for a third of the time less


def _values(db: Database, new: NewRequest) -> tuple[Any, ...]:
    db.tick += 1
    identity = (new.chain_id, new.contract, pack_id(new.id), new.digest, new.kind.value)
    times = (new.now, LONGEST_WAIT, new.deadline, new.now)
    return (*identity, *place_of(new.log), *times, pack_log(new.log), new.id % RESIDUES)


_SAME = "SELECT rid FROM request WHERE chain_id = ? AND contract = ? AND id = ? AND digest = ?"
_PENDING = "SELECT coalesce(sum(rows), 0) FROM tally WHERE kind = ? AND state = 'pending'"

MOST_PENDING = 10_000
"""Requests of a kind that are in work or wait for it: clients that leave give up their turn, and not their work."""


class TooManyPosts(KmsconnError):  # noqa: N818 - what a client gets, not a fault of the program
    """So many requests over HTTP are in work that none more is taken."""


@attrs.frozen
class Taken:
    """The row of a posted request (None: it cannot be read), and whether it begins now, for the first time or again."""

    row: Row | None
    begins: bool


def take(db: Database, post: NewRequest) -> Taken:
    """Insert a request that is new, let one begin again that may, and return its row in any case. All or nothing.

    Raises TooManyPosts where it would begin beside ``MOST_PENDING`` others. Repeating: finds the row that the first time made.
    """
    with db.savepoint():
        identity = (post.chain_id, post.contract, pack_id(post.id), post.digest)
        found = db.execute(_SAME, identity).fetchone()
        if found is None:
            rid, begins = insert(db, post), True
        else:
            rid, begins = found[0], _repeat(db, found[0], post)
        db.driver.tally.write(db.execute)
        if begins and db.execute(_PENDING, (post.kind.value,)).fetchone()[0] > MOST_PENDING:
            raise TooManyPosts(f"{MOST_PENDING} requests of this kind are in work")
        return Taken(read_one(db, rid), begins)


def _repeat(db: Database, rid: int, post: NewRequest) -> bool:
    return move(
        db,
        "repeat",
        rid,
        reason="asked for again",
        now=post.now,
        deadline=post.deadline,
        log=pack_log(post.log),
    )


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
_REPLACED = (
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
TOPICS, BEGINNING = (
    4,
    33,
)  # at most; bytes of data: the word that may be an id, and one that makes it nobody's data
LONGEST_REASON = 1024  # characters

LONG_READ = 64  # arrivals: recording so many takes some milliseconds

JUDGED_BY_BLOCK = frozenset({State.REJECTED, State.DONE})

_CHECKPOINT = (
    "INSERT INTO checkpoint VALUES (?, ?, ?) ON CONFLICT (chain_id, block) DO UPDATE SET hash = excluded.hash"
)


@attrs.define
class _Changes:
    new: list[tuple[int, Arrival]] = attrs.Factory(list)
    back: list[tuple[int, Arrival]] = attrs.Factory(list)
    moved: int = 0
    gone: int = 0
    doubtful: set[int] = attrs.Factory(set)
    false: int = 0
    """How many logs the read shows that are not of their block."""


@attrs.frozen
class _Known:
    rid: int
    digest: bytes
    state: State
    on_chain: bool
    place: tuple[int, bytes, bytes, int]


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
    changes, of = _Changes(), (read.chain_id, read.contract)
    unmoved = {standing: rid for rid, standing in _in_range(db, read)}
    shown = _true(read, changes) if read.headers else read.arrivals
    arrivals = [(unmoved.pop(_standing(one), None), one) for one in _last_of_each_id(shown)]
    _take(db, read, [arrival for rid, arrival in arrivals if rid is None], changes)
    if read.headers:
        _drop_replaced(db, of, read.headers, changes)
    if unmoved:
        _doubt_absent(db, read, unmoved, changes)
    quarantined = _quarantine(db, read)
    clean = not (unmoved or changes.doubtful or changes.false or changes.gone) and (
        passed is None or _lowest_news(read, changes, quarantined) > passed
    )
    db.execute(_CURSOR, (*of, read.cursor, read.blocks[0] - 1, read.blocks[0] - 1, read.chain_time))
    if not clean:
        db.execute(_ANEW, (read.chain_time, *of))
    if read.head is not None:
        db.execute(_CHECKPOINT, (read.chain_id, read.head.number, read.head.hash))
    return Recorded(
        tuple(changes.new), changes.moved, changes.gone, tuple(changes.back), quarantined,
        tuple(sorted(changes.doubtful)), clean,
    )  # fmt: skip


def generation(db: Database, chain_id: int) -> int:
    """Return how often a chain was found to have forked."""
    found = db.execute(_GENERATION, (chain_id,)).fetchone()
    return 0 if found is None else int(found[0])


def begin(db: Database, chain_id: int, contract: Address, at: ReadUpTo, first: Checkpoint | None) -> None:
    """Let the reading of a contract begin that was never read, and keep the block below which nothing is. Repeating: changes nothing."""
    db.execute(_CURSOR, (chain_id, contract, at.next_block, at.settled, at.passed, at.since))
    if first is not None:
        db.execute(_CHECKPOINT, (chain_id, first.number, first.hash))


def settle(db: Database, chain_id: int, contract: Address, of: int, at: ReadUpTo) -> bool:
    """Settle blocks in the generation ``of`` of the chain; False where it has another one. The cursor stays."""
    if of != generation(db, chain_id):
        return False
    return db.execute(_SETTLE, (at.settled, at.passed, at.since, chain_id, contract)).rowcount > 0


def _drop_replaced(
    db: Database, of: tuple[int, Address], headers: Mapping[int, bytes], changes: _Changes
) -> None:
    for number, header in headers.items():
        replaced = db.execute(_REPLACED, (*of, number, header)).fetchall()
        _drop(db, [rid for (rid,) in replaced], changes)


def _true(read: Read, changes: _Changes) -> Iterator[Arrival]:
    """Yield what the read shows, without what the headers that are known do not have."""
    for arrival in read.arrivals:
        if read.headers.get(arrival.log.block_number, arrival.log.block_hash) == arrival.log.block_hash:
            yield arrival
        else:
            changes.false += 1


def _doubt_absent(
    db: Database, read: Read, absent: Mapping[tuple[object, ...], int], changes: _Changes
) -> None:
    """Ask for the headers where rows stand that the read leaves out: only these judge them."""
    del db
    changes.doubtful |= {_block_of(standing) for standing in absent} - read.headers.keys()


def _lowest_news(read: Read, changes: _Changes, quarantined: int) -> float:
    """Return the lowest block of which the read tells something; one of no number where what was known has another place."""
    if changes.moved or changes.back:
        return -math.inf
    news = [arrival.log.block_number for _, arrival in changes.new]
    news += [log.block_number for log, _ in read.undecodable] if quarantined else []
    return min(news, default=math.inf)


def _in_range(db: Database, read: Read) -> list[tuple[int, tuple[object, ...]]]:
    """Return what stands in the range, before anything is changed: the row, and what ``_standing`` says of its arrival."""
    found = db.execute(_IN_RANGE, (read.chain_id, read.contract, *read.blocks))
    return [(rid, tuple(standing)) for rid, *standing in found]


def _standing(arrival: Arrival) -> tuple[object, ...]:
    return pack_id(arrival.id), arrival.kind.value, arrival.digest, *place_of(arrival.log)


def _block_of(standing: tuple[object, ...]) -> int:
    block = standing[3]
    assert isinstance(block, int)
    return block


def _last_of_each_id(arrivals: Iterable[Arrival]) -> Iterable[Arrival]:
    # A node in the middle of a reorganisation may show two contents of one id: only the later place can be right.
    # Within a block two logs of one id are two forms of the same request, in whatever order: the one that says more counts.
    ordered = sorted(
        arrivals, key=lambda arrival: (arrival.log.block_number, arrival.whole, arrival.log.log_index)
    )
    return {(arrival.kind, arrival.id): arrival for arrival in ordered}.values()


def _take(db: Database, read: Read, arrivals: Sequence[Arrival], changes: _Changes) -> None:
    """Take arrivals that do not stand where they stood, each with an id of its own; what contradicts what was known needs a header."""
    new: list[Arrival] = []
    for arrival, known in zip(arrivals, _known(db, read, arrivals), strict=True):
        if known and arrival.log.block_number not in read.headers:
            changes.doubtful |= {arrival.log.block_number, *(row.place[0] for row in known if row.on_chain)}
            continue
        _drop(db, [row.rid for row in known if row.digest != arrival.digest and row.on_chain], changes)
        same = next((row for row in known if row.digest == arrival.digest), None)
        if same is None:
            new.append(arrival)
        else:
            _place(db, read, same, arrival, changes)
    _insert(db, read, new, changes)


def _known(db: Database, read: Read, arrivals: Iterable[Arrival]) -> Iterator[list[_Known]]:
    of = read.chain_id, read.contract
    keys = ((*of, pack_id(arrival.id), arrival.kind.value) for arrival in arrivals)
    for stored in db.fetch_each(_KNOWN, keys):
        yield [
            _Known(rid, digest, State(state), bool(on_chain), tuple(place))
            for rid, digest, state, on_chain, *place in stored
        ]


def _insert(db: Database, read: Read, arrivals: Sequence[Arrival], changes: _Changes) -> None:
    rids = insert_all(db, [_new_request(read, arrival) for arrival in arrivals])
    changes.new += zip(rids, arrivals, strict=True)


def _new_request(read: Read, arrival: Arrival) -> NewRequest:
    deadline = read.chain_time + read.expiry if arrival.expires else math.inf
    identity = (read.chain_id, read.contract, arrival.id, arrival.kind, arrival.digest)
    return NewRequest(*identity, arrival.log, deadline, read.now)


def _place(db: Database, read: Read, row: _Known, arrival: Arrival, changes: _Changes) -> None:
    place = place_of(arrival.log)
    if row.on_chain and row.place == place:
        return
    db.tick = db.answers_tick = db.tick + 1
    line = line_of(read.now, "moved", f"block {arrival.log.block_number}")
    db.execute(_HERE, (*place, pack_log(arrival.log), line, row.rid))
    changes.moved += row.place != place
    again = row.place[:2] != place[:2] and _judge_anew(db, read, row)
    if again or (not row.on_chain and row.state not in CLOSED):
        changes.back.append((row.rid, arrival))


def _judge_anew(db: Database, read: Read, row: _Known) -> bool:
    """Take a row back that the contract of its old branch ended: to its answer, where one is kept."""
    if row.state not in JUDGED_BY_BLOCK:
        return False
    steps = ("reoffer", "rejudge")
    return any(move(db, step, row.rid, next_attempt=read.now, reason="in another block") for step in steps)


def _drop(db: Database, rids: Iterable[int], changes: _Changes) -> None:
    for rid in rids:
        db.tick = db.answers_tick = db.tick + 1
        changes.gone += db.execute(_OFF, (line_of(db.wall(), "gone"), rid)).rowcount


def _quarantine(db: Database, read: Read) -> int:
    if not read.undecodable:
        return 0
    found, room = 0, UNDECODABLE_BYTES - (db.execute(_QUARANTINED).fetchone()[0] or 0)
    for log, reason in read.undecodable:
        block, block_hash, transaction_hash, log_index = place_of(log)
        where = (read.chain_id, block_hash, log_index, read.contract, block, transaction_hash)
        said, why = _bounded(log, reason, min(LARGEST_UNDECODABLE, room))
        added = db.execute(_QUARANTINE, (*where, said, why, read.now)).rowcount
        found, room = found + added, room - added * len(said)
    return found


def _bounded(log: Log, reason: str, limit: int) -> tuple[bytes, str]:
    """Return what is kept of a log, and why it cannot be decoded; beyond the limit its beginning, which can be no request."""
    said = pack_log(log)
    if len(said) <= limit:
        return said, reason[:LONGEST_REASON]
    beginning = attrs.evolve(log, topics=log.topics[:TOPICS], data=log.data[:BEGINNING])
    return pack_log(
        beginning
    ), f"{reason[:LONGEST_REASON]}; of its {len(said)} bytes only the beginning is kept"
