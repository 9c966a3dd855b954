"""Two servers of PostgreSQL, the second one a standby of the first, and two connectors over their journal under a load.

The standby receives what is committed a moment later, as asynchronous replication does: a commit that it lacks is lost when it is promoted.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import psycopg
import trio

from bench.cluster import OWNER, UNSYNCED, Cluster, give_to_owner, open_cluster, open_standby
from bench.connector import ConnectorProcess, Recipe, end_all, of_process
from bench.processes import EmulatedDependencies, open_dependencies
from bench.soak import HISTORY, verdict_of

RATE = 8
PART = 2
"""Seconds of load at a time."""
PATIENCE = 240.0
"""Seconds for a whole test on a busy machine; an undisturbed run takes ten to seventeen."""
LEASE = "2s"
LOOK_AGAIN = 0.05
DATABASE = "kmsconn"


@attrs.define(eq=False)
class Pair:
    """Two servers: ``first`` is the primary at the beginning, and named first in the address; ``second`` is its standby."""

    first: Cluster
    second: Cluster

    @property
    def url(self) -> str:
        """Return the address that names both, as an operator writes it."""
        servers = f"127.0.0.1:{self.first.port},127.0.0.1:{self.second.port}"
        return (
            f"postgresql://{OWNER}:{self.first.password}@{servers}/{DATABASE}?target_session_attrs=read-write"
        )

    def hold_back(self) -> None:
        """Have the standby receive nothing more."""
        self.second.run("ALTER SYSTEM SET primary_conninfo = ''")
        self.second.run("SELECT pg_reload_conf()")
        while self.second.run("SELECT count(*) FROM pg_stat_wal_receiver") != "0":
            time.sleep(LOOK_AGAIN)

    async def is_behind(self) -> bool:
        """Say whether the standby lacks commits."""
        return self.tick(self.second) < self.tick(self.first)

    def promote(self) -> None:
        """Make the standby a primary."""
        self.second.run("SELECT pg_promote()")

    def follow(self) -> None:
        """Start the first server, which has ended well, as a standby of the second one."""
        source = f"primary_conninfo = 'host={self.second.folder} port={self.second.port} user={OWNER}'\n"
        with (self.first.data / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
            file.write(source)
        mark = self.first.data / "standby.signal"
        mark.touch()
        give_to_owner(mark)
        self.first.start()

    def tick(self, server: Cluster) -> int:
        """Return the tick of the last commit of the journal that a server has."""
        return int(server.run("SELECT value FROM meta WHERE key = 'tick'", DATABASE))


@attrs.define(eq=False)
class Group:
    """Processes over the journal of a pair of servers."""

    dependencies: EmulatedDependencies
    pair: Pair
    processes: list[ConnectorProcess] = attrs.field(factory=list)

    async def start(self) -> ConnectorProcess:
        """Start a process."""
        config = of_process(self.dependencies.config, len(self.processes), self.pair.url)
        with config.open("a", encoding="utf-8") as file:
            file.write(f'lease = "{LEASE}"\n')
        made = ConnectorProcess(Recipe(), config)
        self.processes.append(made)
        await made.start()
        return made

    async def joins(self, process: ConnectorProcess, server: Cluster) -> None:
        """Return once a process is a member of the journal that a server has."""
        await until(lambda: self._is_member(process, server))

    async def _is_member(self, process: ConnectorProcess, server: Cluster) -> bool:
        assert process.pid is not None, process.text()
        return process.name in await self.members(server)

    async def members(self, server: Cluster) -> set[str]:
        """Return who is a member of the journal that a server has."""
        return await asked(server, b"SELECT split_part(name, '@', 1) FROM member")

    def cut(self, server: Cluster) -> None:
        """End all connections of the processes to a server, so that they make new ones."""
        server.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'kmsconn'"
        )

    async def are_healthy(self) -> None:
        """Return once every process says that it is healthy."""
        for one in self.processes:
            await until(partial(is_healthy, one))

    async def answered(self) -> int:
        """Return how many requests are answered."""
        return int((await self.dependencies.get("/status"))["answered"])

    async def answers_again(self, more: int = 5) -> None:
        """Return once some more requests are answered."""
        before = await self.answered()
        while await self.answered() < before + more:
            await trio.sleep(LOOK_AGAIN)


async def is_healthy(process: ConnectorProcess) -> bool:
    """Say whether a process says of itself that it is healthy."""
    started = [line for line in process.text().splitlines() if '"event":"started"' in line]
    place = json.loads(started[-1])["monitoring"] if started else ""

    def ask() -> bool:
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"{place}/healthz", timeout=PATIENCE) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    return bool(place) and await trio.to_thread.run_sync(ask)


async def asked(server: Cluster, question: bytes) -> set[str]:
    """Return the texts that the database of a server answers; none where it has no journal yet."""

    def ask() -> set[str]:
        keywords: dict[str, Any] = server.address(DATABASE).keywords()
        with psycopg.connect(**keywords) as connection:
            try:
                return {text for (text,) in connection.execute(question)}
            except psycopg.errors.UndefinedTable:
                return set()

    return await trio.to_thread.run_sync(ask)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Return once something holds, in one of the processes."""
    while not await holds():  # noqa: ASYNC110 - other processes make it so
        await trio.sleep(LOOK_AGAIN)


async def offer(dependencies: EmulatedDependencies, counts: list[int], over: trio.Event) -> None:
    """Have users ask, until it is over and all are answered, and note how many did."""

    async def some() -> None:
        wanted = {"rate": RATE, "seconds": PART, "reply_timeout": PATIENCE}
        counts.append((await dependencies.post("/load", wanted))["offered"])

    async with trio.open_nursery() as nursery:
        while not over.is_set():
            nursery.start_soon(some)
            await trio.sleep(PART)


@asynccontextmanager
async def replicated(folder: Path, programs: Path) -> AsyncIterator[Group]:
    """Run two processes over two servers under a load while the block lasts; all must be answered at the end, and nothing twice."""
    offered: list[int] = []
    with trio.fail_after(PATIENCE), ExitStack() as stack:
        first = stack.enter_context(open_cluster(programs, **UNSYNCED))
        first.run(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
        pair = Pair(first, stack.enter_context(open_standby(first)))
        async with open_dependencies(
            folder, "--size", "205", "--computing", "0.01", *HISTORY
        ) as dependencies:
            made = Group(dependencies, pair)
            try:
                for one in [await made.start(), await made.start()]:
                    await made.joins(one, first)
                async with trio.open_nursery() as nursery:
                    over = trio.Event()
                    nursery.start_soon(offer, dependencies, offered, over)
                    await made.answers_again()
                    yield made
                    over.set()
                status = await dependencies.get("/status")
            finally:
                await end_all(made.processes)  # noqa: ASYNC102 - shields itself, with a deadline
    assert verdict_of(status, sum(offered)).well, status
    assert not [one.name for one in made.processes if "Traceback" in one.text()]
