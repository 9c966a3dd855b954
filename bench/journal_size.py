"""A journal of years: how long its start, each of its queries and a step of retention take, and how large its file is.

``python -m bench.journal_size [--closed N] [--open N] [--folder PATH]`` writes a file of its own and removes it. Statements run in the
loop, so the CPU time of a query is time of the loop; what runs off the loop is marked. The best and the worst of ``REPEATS`` count.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, make_id
from kmsconn.journal import moves, queries, recording, retention
from kmsconn.journal.database import Binding, Database
from kmsconn.journal.queries import JournalPlace
from kmsconn.journal.recording import Arrival, Read
from kmsconn.journal.retention import Position, RetentionStep
from kmsconn.journal.rows import RESIDUES, find_odd_rows, pack_log
from kmsconn.journal.sqlite import SqliteDriver
from kmsconn.model.requests import Kind

CHAIN, CONTRACT, KIND = 31337, Address(b"\xdc" * 20), Kind.PUBLIC_DECRYPTION
BINDING = Binding("fhevm", CHAIN, 1, CONTRACT, Address(b"\x5e" * 20))
NOW = 1_800_000_000.0
DAY = 86_400.0
SHARDS = 4
REPEATS = 5
EVENT, ANSWER, TRANSACTION = 1500, 1300, 1200  # bytes of the long values of a closed row

_CLOSED = """
WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :end)
INSERT INTO request (chain_id, contract, id, digest, kind, state, on_chain, block, log_index, block_hash, transaction_hash,
    next_attempt, max_wait, deadline, submitted, deferred, recorded_at, answered_at, nonce, included_block, reply_hash, signer, log,
    calldata, raw, residue, closed_at)
SELECT :chain, :contract, packed(i), randomblob(32), :kind, 'finalized', 1, i, 0, randomblob(32), randomblob(32),
    0, 60, 0, 0, 0, :now - 100 * 86400 + i, :now - 100 * 86400 + i, i, i, randomblob(32), randomblob(20),
    CAST(:log || randomblob(:event) AS BLOB),
    randomblob(:answer), randomblob(:transaction), residue(i), :now - 100 * 86400 + i
FROM n
"""
# Of the open rows half are due, half wait for up to a minute.
_OPEN = """
WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :end)
INSERT INTO request (chain_id, contract, id, digest, kind, state, on_chain, block, log_index, block_hash, transaction_hash,
    next_attempt, max_wait, deadline, submitted, deferred, recorded_at, log, residue)
SELECT :chain, :contract, packed(i), randomblob(32), :kind, 'pending', 1, i, 0, randomblob(32), randomblob(32),
    :now + (i % 120) - 60, 60, 1e308, 0, i % 2, :now - 3600, :log, residue(i)
FROM n
"""


def packed(counter: int) -> bytes:
    return make_id(PUBLIC_DECRYPTION_TAG, counter).to_bytes(32)


def residue(counter: int) -> int:
    return make_id(PUBLIC_DECRYPTION_TAG, counter) % RESIDUES


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    print(f"{what:<72} {time.perf_counter() - began:8.2f} s", flush=True)


def look(what: str, query: Callable[[], Any]) -> None:
    seconds = []
    for _ in range(REPEATS):
        began = time.thread_time()
        query()
        seconds.append(time.thread_time() - began)
    print(f"{what:<72} {min(seconds) * 1000:8.2f} ms  {max(seconds) * 1000:8.2f} ms at worst", flush=True)


def sizes(path: Path, what: str, db: Database) -> None:
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    free = db.execute("PRAGMA freelist_count").fetchone()[0] * 4096
    print(f"{what:<72} {path.stat().st_size / 1e6:8.0f} MB  {free / 1e6:8.0f} MB of it free", flush=True)


def opened(path: Path) -> Database:
    driver = SqliteDriver(path, SHARDS)
    db = Database(driver, lambda: NOW)
    db.open(BINDING)
    connection = driver._connection  # noqa: SLF001 - to make many rows at once
    assert connection is not None
    connection.create_function("packed", 1, packed)
    connection.create_function("residue", 1, residue)
    return db


def fill(db: Database, statement: str, first: int, end: int) -> None:
    log = Log(CONTRACT, (b"\x01" * 32,), bytes(300), 0, b"", b"", 0)
    values = {
        "chain": CHAIN, "contract": CONTRACT, "kind": KIND.value, "now": NOW, "log": pack_log(log),
        "event": EVENT, "answer": ANSWER, "transaction": TRANSACTION,
    }  # fmt: skip
    for begin in range(first, end, 20_000):
        db.begin()
        db.execute(statement, {**values, "first": begin, "end": min(end, begin + 20_000)})
        db.commit()


def arrivals(first: int, number: int) -> tuple[Arrival, ...]:
    made = []
    for counter in range(first, first + number):
        identifier = make_id(PUBLIC_DECRYPTION_TAG, counter)
        log = Log(CONTRACT, (b"\x01" * 32,), bytes(600), counter, bytes(32), bytes(32), 0)
        made.append(Arrival(identifier, KIND, identifier.to_bytes(32), log))
    return tuple(made)


def record(db: Database, first: int) -> None:
    read = Read(CHAIN, CONTRACT, (first, first + 9), arrivals(first, 10), (), first + 10, None, NOW, NOW, DAY)
    db.begin()
    recording.record(db, read)
    db.roll_back()


def queries_of(db: Database, last: int) -> None:
    def due(now: float, full: int | None = None) -> Callable[[], Any]:
        without = frozenset[int]() if full is None else frozenset({full})
        busy = frozenset(range(last - 128, last))
        return lambda: queries.due(db, [KIND], now, 32, busy, without=without)

    look("due: 32 rows", due(NOW))
    look("heal: the clock was set back", lambda: moves.heal(db))
    look("due: one of four shards is full", due(NOW, 1))
    look("due: nothing is due", due(NOW - 61))
    look("counts", lambda: queries.counts(db, NOW))
    look("waiting: 16 rows", lambda: queries.waiting(db, [KIND], NOW, 16))
    look("answered, signed, included: none", lambda: (
        queries.answered(db, CHAIN, NOW, 100), queries.signed(db, CHAIN), queries.included(db, CHAIN, last, 100)
    ))  # fmt: skip
    look("record: a read of ten blocks with ten requests", lambda: record(db, last + 10))


def defer_all(db: Database, first: int, rows: int) -> None:
    """Let a thousand rows be deferred and moved, as the pools do all the time."""
    db.begin()
    began = time.perf_counter()
    for rid in range(first, first + rows):
        moves.defer(db, rid, NOW + 30, "the Core is busy")
    seconds = time.perf_counter() - began
    db.roll_back()
    print(f"{'defer: one row':<72} {seconds / rows * 1e6:8.1f} µs", flush=True)


def prove(db: Database, last: int, chunk: int = 2000) -> None:
    """Walk over the ids as the proof of completeness does at a start."""
    mark = retention.low_water(db, CHAIN, CONTRACT, KIND)
    first = 1 if mark is None else mark.id - (PUBLIC_DECRYPTION_TAG << 248) + 1
    longest, began, steps = 0.0, time.perf_counter(), 0
    while first < last:
        at = time.perf_counter()
        ids = (make_id(PUBLIC_DECRYPTION_TAG, first), make_id(PUBLIC_DECRYPTION_TAG, last))
        found = queries.places(db, CHAIN, CONTRACT, KIND, ids, limit=chunk)
        longest, steps = max(longest, time.perf_counter() - at), steps + 1
        if len(found) < chunk:
            break
        first = found[-1].id - (PUBLIC_DECRYPTION_TAG << 248) + 1
    what = f"proof of completeness, {steps} steps, {'no mark' if mark is None else 'from the low-water mark'}"
    print(
        f"{what:<72} {time.perf_counter() - began:8.2f} s   {longest * 1000:8.2f} ms the longest step (off the loop)",
        flush=True,
    )


def retain(db: Database, what: str, plan: RetentionStep) -> None:
    position: Position | None = Position()
    steps, longest, began, changes = 0, 0.0, time.perf_counter(), db.driver.changes
    while position is not None:
        at = time.perf_counter()
        db.begin()
        position, steps = retention.step(db, plan, position), steps + 1
        db.commit()
        longest = max(longest, time.perf_counter() - at)
    seconds = time.perf_counter() - began
    each = f"{seconds / steps * 1000:.1f} ms each, {longest * 1000:.1f} ms the longest (off the loop)"
    print(
        f"{what:<72} {seconds:8.1f} s   {steps} steps for {db.driver.changes - changes} rows, {each}",
        flush=True,
    )


def give_back(db: Database) -> None:
    before, pages = -1, 0
    while pages != before:
        db.begin()
        retention.step(db, RetentionStep(None, None, {}), Position())
        db.commit()
        before, pages = pages, int(db.execute("PRAGMA page_count").fetchone()[0])


def run(path: Path, closed: int, opens: int) -> None:
    db = opened(path)
    last = closed + opens
    with timed(f"(making {closed} closed and {opens} open rows)"):
        fill(db, _CLOSED, 1, closed + 1)
        fill(db, _OPEN, closed + 1, last + 1)
    sizes(path, "file without retention", db)
    db.close()

    with timed("start: open the journal, look for damaged rows"):
        db = opened(path)
        find_odd_rows(db)
    queries_of(db, last)
    defer_all(db, closed + 1, 1000)
    prove(db, last)
    retention.raise_low_water(
        db, CHAIN, CONTRACT, KIND, JournalPlace(make_id(PUBLIC_DECRYPTION_TAG, closed), closed)
    )
    prove(db, last)

    plan = RetentionStep(NOW - 7 * DAY, None, {CHAIN: last}, frozenset({KIND}))
    retain(db, "retention of contents (events, answers, transactions)", plan)
    sizes(path, "file after it", db)
    give_back(db)
    sizes(path, "file, free space given back", db)
    queries_of(db, last)
    retain(db, "retention of rows", attrs.evolve(plan, delete_before=NOW))
    give_back(db)
    sizes(path, "file with the open rows alone", db)
    queries_of(db, last)
    db.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--closed", type=int, default=1_000_000)
    parser.add_argument("--open", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        run(Path(folder) / "journal.db", arguments.closed, arguments.open)


if __name__ == "__main__":
    main()
