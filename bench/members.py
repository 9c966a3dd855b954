"""``python -m bench.members``: several processes over one journal while they are ended, killed, stopped and cut off at random; a verdict.

Processes share a PostgreSQL journal and answer a steady load. One after the other is ended by SIGTERM, killed, stopped for longer than its
lease and continued, or cut from the database. The emulated chain says in the end what was lost and what was sent twice; the database says
how long it took until another process held the leases of the one that was disturbed.
"""

from __future__ import annotations

import argparse
import math
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from bench.cluster import find_programs, open_cluster
from bench.connector import ConnectorProcess, Recipe, end_all, of_process
from bench.figures import Spread, spread
from bench.machine import write_report
from bench.processes import EmulatedDependencies, kept, open_dependencies, tail
from bench.soak import HISTORY, LATE, came_to, counts_of, judgement_of, progress, times_of
from bench.table import milliseconds

if TYPE_CHECKING:
    import psycopg

LEASE: Final = 5.0  # seconds: the default
GAP: Final = 20.0  # seconds between disturbances, on the average: what waited meanwhile is worked off
WARM_UP: Final = {"rate": 10, "seconds": 3, "reply_timeout": 60}
KINDS: Final = ("term", "kill", "stop", "cut")


@attrs.define(eq=False)
class MemberProcess(ConnectorProcess):
    """One of the processes; ``way`` is its way to the database."""

    way: CuttableWay = attrs.field(kw_only=True)


@attrs.define(eq=False)
class Disturber:
    """Disturbs one process after the other. ``held`` asks the database who holds what."""

    members: Sequence[MemberProcess]
    held: AskHeld
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
        before = held_by(await self.held(), victim.name)
        kept_after = 3 * self.lease + 1 if kind == "cut" else math.inf  # it may be cut for less than a lease
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, self.held, kind, before, self.handed_over, kept_after)
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


@asynccontextmanager
async def open_members(
    dependencies: EmulatedDependencies, number: int, lease: float
) -> AsyncIterator[tuple[list[MemberProcess], AskHeld]]:
    """Start a database and so many processes; end them with the block."""
    async with AsyncExitStack() as stack:
        cluster = stack.enter_context(open_cluster(find_programs()))
        members = []
        for place in range(number):
            way = await stack.enter_async_context(open_cuttable(cluster.port))
            config = of_process(dependencies.config, place, cluster.url(tcp=True, port=way.port))
            with config.open("a", encoding="utf-8") as file:
                file.write(f'lease = "{lease:g}s"\n')
            members.append(MemberProcess(Recipe(), config, way=way))
        held = await stack.enter_async_context(open_leases(cluster.url()))
        try:
            for member in members:
                await member.start()
                await until_held(held)
            yield members, held
        finally:
            for member in members:
                member.way.mend()
            await end_all(members)  # noqa: ASYNC102 - shields itself, with a deadline


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
        logs = {member.name: tail(member.log, 40) for member in members}
    anew = sum(member.text().count("starting anew") for member in members)
    return {
        **came_to(status, warm["offered"], done, arguments.rate),
        "disturbances": dict(disturber.counts),
        "handed_over": [attrs.asdict(one) for one in disturber.handed_over],
        "statuses": disturber.statuses,
        "started_anew": anew,
        "tracebacks": {m.name: m.text().count("Traceback") for m in members},
        "logs": logs,
    }


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
    kinds = sorted({one["kind"] for one in found["handed_over"]})
    spreads = {
        kind: spread([one["seconds"] for one in found["handed_over"] if one["kind"] == kind])
        for kind in kinds
    }
    return [
        counts_of(found["verdict"]),
        times_of(found["outcome"]["whole"]),
        "disturbances: " + ", ".join(f"{kind} {number}" for kind, number in found["disturbances"].items()),
        f"connectors that began anew in their process: {found['started_anew']}; tracebacks {found['tracebacks']}",
        *(f"hand-over after {kind}: {in_words(one)}" for kind, one in spreads.items()),
        judgement_of(found["verdict"]),
    ]


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
    with kept("kmsconn-members-", arguments.keep) as folder:
        found = trio.run(run, arguments, folder)
    names = ("processes", "minutes", "rate", "computing", "lease", "gap", "seed")
    write_report(arguments.out, arguments, names, found)
    print("\n".join(summary(found)))


LOOK: Final = 0.01  # seconds between looks at the leases while they go over
LONGEST: Final = 30.0  # seconds for which a hand-over is waited for
STARTING: Final = 60.0
HELD: Final = (
    b"SELECT lease.name, lease.token, split_part(member.name, '@', 1) FROM lease JOIN member USING (token)"
)

Held = Mapping[str, tuple[int, str]]
"""Of each lease the token and the name of the process that holds it."""
AskHeld = Callable[[], Awaitable[Held]]


@attrs.frozen
class HandOver:
    """A lease that went over to another process, in so many seconds from the disturbance."""

    kind: str
    lease: str
    seconds: float


@asynccontextmanager
async def open_leases(url: str) -> AsyncIterator[AskHeld]:
    """Connect to the database of a journal while the block lasts; gives what asks it who holds what."""
    connection = await _until_connected(url)

    async def ask() -> Held:
        return await trio.to_thread.run_sync(partial(_held, connection))

    try:
        yield ask
    finally:
        connection.close()


async def until_held(ask: AskHeld) -> None:
    """Wait until a process has made the tables and taken leases."""
    with trio.fail_after(STARTING):
        while not await ask():  # noqa: ASYNC110 - other processes take them
            await trio.sleep(LOOK)


def held_by(held: Held, name: str) -> dict[str, int]:
    """Return the leases of one process, with its token."""
    return {lease: token for lease, (token, who) in held.items() if who == name}


async def follow(
    ask: AskHeld, kind: str, before: Mapping[str, int], found: list[HandOver], kept_after: float = math.inf
) -> int:
    """Note when each lease went over to another member, and return how many did not in time.

    Leases that all are where they were after ``kept_after`` seconds were never lost.
    """
    began, waiting = trio.current_time(), dict(before)
    with trio.move_on_after(LONGEST):
        while waiting:
            held = await ask()
            passed = trio.current_time() - began
            for lease in _gone_over(held, waiting):
                del waiting[lease]
                found.append(HandOver(kind, lease, passed))
            if passed > kept_after and _are_kept(held, waiting):
                return 0
            await trio.sleep(LOOK)
    return len(waiting)


def _gone_over(held: Held, waiting: Mapping[str, int]) -> list[str]:
    return [lease for lease, token in waiting.items() if lease in held and held[lease][0] != token]


def _are_kept(held: Held, waiting: Mapping[str, int]) -> bool:
    return all(lease in held and held[lease][0] == token for lease, token in waiting.items())


def in_words(times: Spread) -> str:
    """Return how long hand-overs took as text."""
    shown = f"p50 {milliseconds(times.p50)} ms, p99 {milliseconds(times.p99)} ms, most {milliseconds(times.most)} ms"
    return f"{times.count} leases, {shown}"


def _held(connection: psycopg.Connection[Any]) -> Held:
    from psycopg.errors import UndefinedTable

    try:
        return {lease: (token, who) for lease, token, who in connection.execute(HELD).fetchall()}
    except UndefinedTable:
        return {}


async def _until_connected(url: str) -> psycopg.Connection[Any]:
    """Return a connection to the database once it takes some."""
    import psycopg

    with trio.fail_after(STARTING):
        while True:
            with suppress(psycopg.OperationalError):
                return psycopg.connect(url, autocommit=True)
            await trio.sleep(LOOK)


CHUNK = 65_536


@attrs.define(eq=False)
class CuttableWay:
    """A listener on loopback before another port. ``is_cut``: bytes wait, as they do in a network that has lost the way."""

    port: int
    target: int
    _open: trio.Event = attrs.field(factory=trio.Event)
    _connections: set[trio.CancelScope] = attrs.field(factory=set)

    def cut(self) -> None:
        """Let nothing through, in either direction."""
        self._open = trio.Event()

    def mend(self) -> None:
        """Let everything through again; the connections of before are broken by then."""
        for connection in tuple(self._connections):
            connection.cancel()
        self._open.set()

    async def serve(self, client: trio.SocketStream) -> None:
        """Hand on one connection."""
        await self._open.wait()
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.target)
        except OSError:
            return
        async with server, trio.open_nursery() as nursery:
            self._connections.add(nursery.cancel_scope)
            try:
                nursery.start_soon(self._hand_on, client, server, nursery.cancel_scope)
                await self._hand_on(server, client, nursery.cancel_scope)
            finally:
                self._connections.discard(nursery.cancel_scope)

    async def _hand_on(
        self, source: trio.SocketStream, sink: trio.SocketStream, connection: trio.CancelScope
    ) -> None:
        try:
            while received := await source.receive_some(CHUNK):
                await self._open.wait()
                await sink.send_all(received)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        connection.cancel()


@asynccontextmanager
async def open_cuttable(target: int) -> AsyncIterator[CuttableWay]:
    """Listen while the block lasts."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    way = CuttableWay(listener.socket.getsockname()[1], target)
    way.mend()
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, way.serve, [listener])
        yield way
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    main()
