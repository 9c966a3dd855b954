"""``python -m bench.answered``: thousands of replies answered at once: how long until all are in the chain, and what that costs.

A transaction manager over a real journal, against the emulated sequencer in the same process: its CPU is in the figure.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import attrs
import trio

from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.journal import recording
from kmsconn.journal.database import Binding
from kmsconn.journal.journal import Journal, open_journal
from kmsconn.journal.recording import Arrival, Read
from kmsconn.model.events import ReplyIncluded
from kmsconn.model.life import Answer
from kmsconn.model.requests import Kind
from kmsconn.replies.manager import run_txmanager
from kmsconn.transport.ports import offload_to_threads
from tests.unit.journal.samples import keep
from tests.unit.replies.world import CHAIN_ID, CONTRACT, KEY, World, calldata, digest_of


@attrs.frozen
class Cost:
    """Seconds until every reply was included, CPU seconds of the process in them, and bytes of memory more than before."""

    seconds: float
    cpu: float
    memory: int
    calls: int


async def measure(count: int, folder: Path) -> Cost:
    """Let so many replies be answered, then start the transaction manager and wait for all of them."""
    world = World(pool="arbitrum")
    world.node.in_order = False
    binding = Binding("fhevm", CHAIN_ID, CHAIN_ID, CONTRACT, KEY.address)
    async with open_journal(folder / "j.db", binding, offload_to_threads, time.time) as journal:
        await answer(world, journal, count)
        manager = world.manager()
        ports = attrs.evolve(manager.ports, wall=time.time)  # the journal's, by which answers are due
        manager = attrs.evolve(manager, journal=journal, ports=ports)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.chain.run)
            began, cpu, memory = time.perf_counter(), time.process_time(), resident()
            nursery.start_soon(run_txmanager, manager)
            while len(world.said(ReplyIncluded)) < count:  # noqa: ASYNC110 - a program that measures
                await trio.sleep(0.05)
            found = Cost(
                time.perf_counter() - began,
                time.process_time() - cpu,
                resident() - memory,
                len(world.node.calls),
            )
            nursery.cancel_scope.cancel()
    return found


async def answer(world: World, journal: Journal, count: int) -> None:
    """Record so many requests with their answers."""
    now = time.time()
    logs = [Log(CONTRACT, (bytes(32),), b"", 0, bytes(32), bytes(32), n) for n in range(count)]
    arrivals = [Arrival(n + 1, Kind.PUBLIC_DECRYPTION, digest_of(n + 1), log) for n, log in enumerate(logs)]
    read = Read(CHAIN_ID, CONTRACT, (0, 0), arrivals, (), 1, None, now, now, 3600.0)
    recorded = await journal.run(recording.record, read)
    for n in range(1, count + 1):
        world.chain.evm.set_up(CONTRACT, lambda frame, n=n: frame.write(digest_of(n), "request", n))
    async with trio.open_nursery() as nursery:
        for (rid, _), arrival in zip(recorded.new, arrivals, strict=True):
            kept = Answer(calldata(arrival.id), Address(bytes(20)))
            nursery.start_soon(journal.run, keep, rid, kept, now)


def resident() -> int:
    """Return the largest memory of this process until now, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Measure once and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.answered", description=__doc__)
    parser.add_argument("--count", type=int, default=5000, metavar="N", help="replies (5,000)")
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as folder:
        found = trio.run(measure, count, Path(folder))
    sys.stdout.write(
        f"{count} replies: {found.seconds:.1f} s, {found.cpu:.1f} s CPU ({found.cpu / count * 1000:.2f} ms each, "
        f"with the emulated chain's), {found.memory / 2**20:.0f} MiB more, {found.calls / count:.1f} calls each\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
