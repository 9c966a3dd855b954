"""``python -m bench.members``: several processes over one journal while they are ended, killed, stopped and cut off at random; a verdict.

Processes share a PostgreSQL journal and answer a steady load. One after the other is ended by SIGTERM, killed, stopped for longer than its
lease and continued, or cut from the database. The emulated chain says in the end what was lost and what was sent twice; the database says
how long it took until another process held the leases of the one that was disturbed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import attrs
import psycopg
import trio

from bench.cluster import open_cluster
from bench.connector import of_process
from bench.cuttable import CuttableWay, open_cuttable
from bench.dependencies import EmulatedDependencies, open_dependencies
from bench.figures import Spread, outcome, spread
from bench.machine import ROOT, describe
from bench.processes import tail
from bench.soak import HISTORY, LATE, progress, verdict_of
from bench.table import milliseconds

LEASE: Final = 5.0  # seconds: the default
GAP: Final = 20.0  # seconds between disturbances, on the average: what waited meanwhile is worked off
LOOK: Final = 0.01  # seconds between looks at the leases while they go over
LONGEST: Final = 30.0  # seconds for which a hand-over is waited for
STARTING: Final = 60.0
ENDING: Final = 40.0
WARM_UP: Final = {"rate": 10, "seconds": 3, "reply_timeout": 60}
KINDS: Final = ("term", "kill", "stop", "cut")
HELD: Final = (
    b"SELECT lease.name, lease.token, split_part(member.name, '@', 1) FROM lease JOIN member USING (token)"
)


@attrs.define(eq=False)
class MemberProcess:
    """One of the processes; ``way`` is its way to the database."""

    name: str
    config: Path
    way: CuttableWay
    process: trio.Process | None = None
    starts: int = 0

    async def start(self) -> None:
        """Start it."""
        self.starts += 1
        with self.config.with_suffix(".log").open("ab") as log:
            command = [sys.executable, "-m", "kmsconn.cli.main", "run", "-c", str(self.config)]
            self.process = await trio.lowlevel.open_process(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def end(self, number: signal.Signals) -> int | None:
        """Send a signal that ends it, and return the status with which it ended."""
        self.send(signal.SIGCONT)
        self.send(number)
        return None if self.process is None else await self.process.wait()


@attrs.frozen
class HandOver:
    """A lease that went over to another process, in so many seconds from the disturbance."""

    kind: str
    lease: str
    seconds: float


@attrs.define(eq=False)
class Disturber:
    """Disturbs one process after the other. ``held`` asks the database who holds what."""

    members: Sequence[MemberProcess]
    held: Callable[[], Awaitable[Mapping[str, tuple[int, str]]]]
    random: Random
    lease: float
    gap: float = GAP
    counts: dict[str, int] = attrs.field(factory=lambda: defaultdict(int))
    handed_over: list[HandOver] = attrs.field(factory=list)
    statuses: list[int | None] = attrs.field(factory=list)
    """With which processes ended that were to end by themselves."""

    async def run(self, seconds: float) -> None:
        """Disturb for so long, whom and how by chance."""
        until = trio.current_time() + seconds
        while trio.current_time() < until:
            await self.disturb(self.random.choice(KINDS), self.random.choice(self.members))
            await trio.sleep(self.random.uniform(self.gap / 2, 3 * self.gap / 2))

    async def disturb(self, kind: str, victim: MemberProcess) -> None:
        """Disturb one process, and follow its leases; return once it was left alone again and they have found a holder."""
        self.counts[kind] += 1
        before = {name: token for name, (token, who) in (await self.held()).items() if who == victim.name}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.follow, kind, before)
            await getattr(self, kind)(victim)

    async def term(self, victim: MemberProcess) -> None:
        """End it well, and start another in its place."""
        self.statuses.append(await victim.end(signal.SIGTERM))
        await victim.start()

    async def kill(self, victim: MemberProcess) -> None:
        """Kill it, and start another in its place after a while."""
        await victim.end(signal.SIGKILL)
        await trio.sleep(self.random.uniform(0.0, 2 * self.lease))
        await victim.start()

    async def stop(self, victim: MemberProcess) -> None:
        """Stop it for longer than its lease, and let it go on."""
        victim.send(signal.SIGSTOP)
        await trio.sleep(self.random.uniform(1.2, 3.0) * self.lease)
        victim.send(signal.SIGCONT)

    async def cut(self, victim: MemberProcess) -> None:
        """Cut it from the database for less or more than its lease."""
        victim.way.cut()
        await trio.sleep(self.random.uniform(0.2, 3.0) * self.lease)
        victim.way.mend()

    async def follow(self, kind: str, before: Mapping[str, int]) -> None:
        """Note when each lease went over to another member."""
        began, waiting = trio.current_time(), dict(before)
        with trio.move_on_after(LONGEST):
            while waiting:
                held = await self.held()
                for name in [
                    name for name, token in waiting.items() if name in held and held[name][0] != token
                ]:
                    del waiting[name]
                    self.handed_over.append(HandOver(kind, name, trio.current_time() - began))
                if (
                    kind == "cut"
                    and self.is_whole(held, waiting)
                    and trio.current_time() - began > 3 * self.lease + 1
                ):
                    return  # it was cut for less than a lease, and kept everything
                await trio.sleep(LOOK)

    def is_whole(self, held: Mapping[str, tuple[int, str]], waiting: Mapping[str, int]) -> bool:
        """Say whether leases are where they were."""
        return all(name in held and held[name][0] == token for name, token in waiting.items())


@asynccontextmanager
async def open_members(
    dependencies: EmulatedDependencies, number: int, lease: float
) -> AsyncIterator[tuple[list[MemberProcess], Callable[[], Awaitable[Mapping[str, tuple[int, str]]]]]]:
    """Start a database and so many processes; end them with the block."""
    async with open_cluster() as cluster, AsyncExitStack() as stack:
        port = int(cluster.url.rpartition(":")[2].partition("/")[0])
        members = []
        for place in range(number):
            way = await stack.enter_async_context(open_cuttable(port))
            url = cluster.url.replace(f":{port}/", f":{way.port}/")
            config = of_process(dependencies.config, place, url)
            name = f"member-{place}"
            with config.open("a", encoding="utf-8") as file:
                file.write(f'service_name = "{name}"\nlease = "{lease:g}s"\n')
            members.append(MemberProcess(name, config, way))
        connection = await until_connected(cluster.url)
        stack.callback(connection.close)
        for member in members:
            await member.start()
            await until_held(connection)

        async def held() -> Mapping[str, tuple[int, str]]:
            return await trio.to_thread.run_sync(partial(_held, connection))

        try:
            yield members, held
        finally:
            with trio.CancelScope(shield=True):
                await _end(members)


def _held(connection: psycopg.Connection[Any]) -> dict[str, tuple[int, str]]:
    return {name: (token, who) for name, token, who in connection.execute(HELD).fetchall()}


async def until_connected(url: str) -> psycopg.Connection[Any]:
    """Return a connection to the database once it takes some."""
    with trio.fail_after(STARTING):
        while True:
            with suppress(psycopg.OperationalError):
                return psycopg.connect(url, autocommit=True)
            await trio.sleep(LOOK)


async def until_held(connection: psycopg.Connection[Any]) -> None:
    """Wait until a process has made the tables and taken leases."""
    with trio.fail_after(STARTING):
        while True:
            with suppress(psycopg.errors.UndefinedTable):
                if _held(connection):
                    return
            await trio.sleep(LOOK)


async def _end(members: Sequence[MemberProcess]) -> None:
    for member in members:
        member.way.mend()
    with trio.move_on_after(ENDING):
        async with trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(member.end, signal.SIGTERM)
    for member in members:
        member.send(signal.SIGKILL)


async def run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the load with its disturbances and return everything that was seen."""
    seconds = arguments.minutes * 60
    async with (
        open_dependencies(
            folder, "--size", "205", "--computing", str(arguments.computing), *HISTORY
        ) as dependencies,
        open_members(dependencies, arguments.processes, arguments.lease) as (members, held),
    ):
        warm = await dependencies.post("/load", WARM_UP)
        disturber = Disturber(members, held, Random(arguments.seed), arguments.lease, arguments.gap)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell, dependencies, disturber, max(10.0, seconds / 30))
            nursery.start_soon(disturber.run, max(0.0, seconds - 2 * arguments.lease))
            load = {"rate": arguments.rate, "seconds": seconds, "reply_timeout": LATE}
            done = await dependencies.post("/load", load)
            nursery.cancel_scope.cancel()
        status = await dependencies.get("/status")
        logs = {member.name: tail(member.config.with_suffix(".log"), 40) for member in members}
    verdict = verdict_of(status, warm["offered"] + done["offered"])
    anew = sum(text_of(member.config).count("starting anew") for member in members)
    return {
        "verdict": {**attrs.asdict(verdict), "well": verdict.well},
        "outcome": attrs.asdict(outcome(done["rows"], done["offered"], arguments.rate)),
        "disturbances": dict(disturber.counts),
        "handed_over": [attrs.asdict(one) for one in disturber.handed_over],
        "statuses": disturber.statuses,
        "started_anew": anew,
        "tracebacks": {m.name: text_of(m.config).count("Traceback") for m in members},
        "logs": logs,
    }


def text_of(config: Path) -> str:
    """Return all that a process has logged."""
    return config.with_suffix(".log").read_text(encoding="utf-8", errors="replace")


async def tell(dependencies: EmulatedDependencies, disturber: Disturber, period: float) -> None:
    """Print how far it is, now and then."""
    begun = trio.current_time()
    while True:
        await trio.sleep(period)
        line = progress(await dependencies.get("/status"), 0, 0, trio.current_time() - begun).partition(
            "  0 MB"
        )[0]
        print(line.rstrip(), dict(disturber.counts), flush=True)


def summary(found: Mapping[str, Any]) -> list[str]:
    """Return the end as text."""
    verdict, whole = found["verdict"], found["outcome"]["whole"]
    counts = ", ".join(
        f"{name} {verdict[name]}" for name in ("emitted", "answered", "lost", "doubled", "strays")
    )
    times = ", ".join(f"{name} {milliseconds(whole[name])} ms" for name in ("p50", "p99", "most"))
    kinds = sorted({one["kind"] for one in found["handed_over"]})
    spreads = {
        kind: spread([one["seconds"] for one in found["handed_over"] if one["kind"] == kind])
        for kind in kinds
    }
    return [
        counts,
        f"from the event's block to the reply's: {times}",
        "disturbances: " + ", ".join(f"{kind} {number}" for kind, number in found["disturbances"].items()),
        f"connectors that began anew in their process: {found['started_anew']}; tracebacks {found['tracebacks']}",
        *(f"hand-over after {kind}: {_shown(one)}" for kind, one in spreads.items()),
        "nothing lost, nothing doubled" if verdict["well"] else "SOMETHING WAS LOST OR DOUBLED",
    ]


def _shown(one: Spread) -> str:
    return f"{one.count} leases, p50 {milliseconds(one.p50)} ms, p99 {milliseconds(one.p99)} ms, most {milliseconds(one.most)} ms"


def parser() -> argparse.ArgumentParser:
    """Return the arguments."""
    made = argparse.ArgumentParser(prog="python -m bench.members", description=__doc__)
    add = made.add_argument
    add("--processes", type=int, default=2, metavar="N", help="over one journal (2)")
    add("--minutes", type=float, default=10.0, metavar="M", help="of load (10)")
    add("--rate", type=float, default=100.0, metavar="R", help="requests per second (100)")
    add("--computing", type=float, default=0.01, metavar="S", help="seconds of the Core for an answer (0.01)")
    add("--lease", type=float, default=LEASE, metavar="S", help="seconds of a lease (5)")
    add(
        "--gap",
        type=float,
        default=GAP,
        metavar="S",
        help="seconds between disturbances, on the average (20)",
    )
    add("--seed", type=int, default=0, metavar="N", help="of the disturbances (0)")
    add("--keep", type=Path, metavar="FOLDER", help="where the logs of all processes are kept")
    add("--out", type=Path, default=Path("bench-results-members.json"), metavar="FILE", help="the JSON file")
    return made


def main() -> None:
    """Run, write and judge."""
    arguments = parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="kmsconn-members-") as folder:
        try:
            found = trio.run(run, arguments, Path(folder))
        finally:
            if arguments.keep is not None:
                shutil.copytree(
                    folder, arguments.keep, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock")
                )
    names = ("processes", "minutes", "rate", "computing", "lease", "gap", "seed")
    parameters = {name: getattr(arguments, name) for name in names}
    head = {"machine": describe(ROOT), "parameters": parameters}
    arguments.out.write_text(json.dumps({**head, **found}), encoding="utf-8")
    print("\n".join(summary(found)))


if __name__ == "__main__":
    main()
