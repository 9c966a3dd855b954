"""``python -m bench.journal_throughput``: requests through the journal alone, in a file and in PostgreSQL: how many a second, at what CPU.

Each request is recorded with others of its block, answered, signed, confirmed and finalized; so many are on their way at once. The CPU of
the process and that of the server's processes are told apart.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from bench.cluster import find_programs, open_cluster
from bench.proc import look
from kmsconn.config.description import PostgresAddress
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.journal import moves, queries, recording
from kmsconn.journal.database import Binding, Database
from kmsconn.journal.journal import Journal, open_journal
from kmsconn.journal.moves import Signing
from kmsconn.journal.recording import Arrival, Read
from kmsconn.model.requests import Kind
from kmsconn.transport.ports import offload_to_threads

CONTRACT, SENDER = Address(b"\xdc" * 20), Address(b"\x5e" * 20)
BINDING = Binding("fhevm", 1, 1, CONTRACT, SENDER)
EVENT, CALLDATA, RAW = bytes(600), bytes(1200), bytes(1400)  # as large as those of a user decryption
PER_BLOCK = 8


@attrs.frozen
class Cost:
    """Requests and operations in the seconds, and CPU seconds of the process and of the server."""

    requests: int
    seconds: float
    cpu: float
    server: float

    def __str__(self) -> str:
        """Return one line of a table."""
        each = f"{1e3 * self.cpu / self.requests:.2f} ms process, {1e3 * self.server / self.requests:.2f} ms server"
        return f"{self.requests / self.seconds:7.0f} requests/s, {each} of CPU a request"


@asynccontextmanager
async def open_place(kind: str) -> AsyncIterator[tuple[Path | PostgresAddress, int | None]]:
    """Give an empty journal's place, and the process id of its server."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="kmsconn-journal-") as folder:
            yield Path(folder) / "journal.db", None
    else:
        with open_cluster(find_programs()) as cluster:
            yield cluster.address(tcp=True), cluster.pid


async def measure(kind: str, count: int, at_once: int) -> Cost:
    """Take so many requests through their lives."""
    async with (
        open_place(kind) as (where, server),
        open_journal(where, BINDING, offload_to_threads, time.time) as journal,
    ):
        if server is not None:
            journal.join(await journal.run(become_member))
        warming = 2 * at_once  # caches, prepared statements
        await run_lives(journal, 1, warming, at_once)
        began, cpu, of_server = time.perf_counter(), time.process_time(), cpu_of(server)
        await run_lives(journal, 1 + warming, count, at_once)
        seconds = time.perf_counter() - began
        return Cost(count, seconds, time.process_time() - cpu, cpu_of(server) - of_server)


def become_member(db: Database) -> int:
    """Become one of the processes over the journal, as a connector is."""
    return int(db.execute("INSERT INTO member DEFAULT VALUES RETURNING token").fetchone()[0])


def cpu_of(server: int | None) -> float:
    """Return the CPU seconds of a server and its processes; none of a file."""
    return 0.0 if server is None else look([server])[0].cpu


async def run_lives(journal: Journal, first: int, count: int, at_once: int) -> None:
    """Run lives, a block of them at a time each, so that ``at_once`` requests are on their way."""
    blocks = iter(range(first, first + count, PER_BLOCK))

    async def live() -> None:
        for number in blocks:
            await live_block(journal, number)

    async with trio.open_nursery() as nursery:
        for _ in range(max(1, at_once // PER_BLOCK)):
            nursery.start_soon(live)


async def live_block(journal: Journal, number: int) -> None:
    """Record a block of requests, and take them through their lives beside each other."""
    now = time.time()
    ids = range(number, number + PER_BLOCK)
    logs = [
        Log(CONTRACT, (bytes(32),), EVENT, number, digest(number), digest(number), n)
        for n in range(PER_BLOCK)
    ]
    arrivals = [Arrival(n, Kind.USER_DECRYPTION, digest(n), log) for n, log in zip(ids, logs, strict=True)]
    read = Read(1, CONTRACT, (number, number), arrivals, (), number + 1, None, now, now, 3600.0)
    recorded = await journal.run(recording.record, read)
    async with trio.open_nursery() as nursery:
        for rid, _ in recorded.new:
            nursery.start_soon(live_on, journal, rid)


async def live_on(journal: Journal, rid: int) -> None:
    """Answer, sign, confirm and finalize a request; look at it once, as a worker does."""
    await journal.run(queries.row, rid)
    await journal.run(moves.move, "answer", rid, calldata=CALLDATA, signer=SENDER, now=time.time())
    await journal.run_each(moves.sign, [{"signing": Signing(rid, rid, RAW, digest(rid))}])
    await journal.run_each(moves.move, [{"rid": rid, "block": rid}], transition="confirm")
    await journal.run_each(moves.move, [{"rid": rid, "block": rid}], transition="finalize")


def digest(number: int) -> bytes:
    """Return a hash's stand-in."""
    return number.to_bytes(32)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1600)
    parser.add_argument("--at-once", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--journals", nargs="+", default=["sqlite", "postgresql"])
    chosen = parser.parse_args(arguments)
    for kind in chosen.journals:
        for at_once in chosen.at_once:
            cost = trio.run(measure, kind, chosen.requests, at_once)
            print(f"{kind:10} {at_once:4} at once: {cost}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
