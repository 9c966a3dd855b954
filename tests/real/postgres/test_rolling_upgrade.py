"""Two versions of the program over one journal, as processes under a load: the newer one adds to the tables, or excludes the older one.

The newer program is a copy of the package with further migrations.
"""

from __future__ import annotations

import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest
import trio

import kmsconn
from bench.cluster import Cluster
from bench.connector import ConnectorProcess, Recipe, end_all, of_process
from bench.processes import EmulatedDependencies, open_dependencies
from bench.soak import HISTORY, verdict_of
from kmsconn.journal.postgres_schema import MIGRATIONS, VERSION
from kmsconn.operate.commands.command import ExitStatus

pytestmark = pytest.mark.rotating

RATE, SECONDS = 12, 9
PATIENCE = 240.0
"""Seconds for a whole test on a busy machine, where each of five processes takes up to fifteen to start; undisturbed all take twelve."""
LEASE = "2s"
LOOK_AGAIN = 0.05
TAIL = 30  # lines of a log
ADDITION = "ALTER TABLE request ADD COLUMN {} bigint NOT NULL DEFAULT 7"
COMPATIBLE = MIGRATIONS[-1].compatible_from
TOO_NEW = f"needs programs of version {VERSION + 1} or later, ours is {VERSION}"


def newer_program(folder: Path, *compatible_from: int) -> str:
    """Copy the package, and give it further versions of the tables; return where Python finds it."""
    assert kmsconn.__file__ is not None
    shutil.copytree(Path(kmsconn.__file__).parent, folder / "kmsconn")
    schema = folder / "kmsconn" / "journal" / "postgres_schema.py"
    more = "".join(
        f'    Migration(("{ADDITION.format(f"newer_{number}")}",), compatible_from={oldest}),\n'
        for number, oldest in enumerate(compatible_from)
    )
    text, count = re.subn(
        r"\)\nVERSION: Final", rf"{more})\nVERSION: Final", schema.read_text(encoding="utf-8")
    )
    assert count == 1, "the list of migrations ends before VERSION"
    schema.write_text(text, encoding="utf-8")
    return str(folder)


@attrs.define(eq=False)
class Rollout:
    """Processes of several versions over the journal at ``url``."""

    dependencies: EmulatedDependencies
    url: str = attrs.field(repr=False)
    connection: psycopg.Connection[Any]
    processes: list[ConnectorProcess] = attrs.field(factory=list)

    async def start(self, program: str | None = None) -> ConnectorProcess:
        """Start a process of a program, today's if none is named."""
        config = of_process(self.dependencies.config, len(self.processes), self.url)
        with config.open("a", encoding="utf-8") as file:
            file.write(f'lease = "{LEASE}"\n')
        made = ConnectorProcess(Recipe(python_path=program), config)
        self.processes.append(made)
        await made.start()
        return made

    async def joins(self, process: ConnectorProcess) -> None:
        """Return once a process is a member."""
        await until(lambda: self._is_member(process))

    def show(self) -> None:
        """Print the ends of all logs; pytest shows them with a test that failed."""
        for one in self.processes:
            sys.stderr.write("".join(f"{one.name}: {line}\n" for line in one.text().splitlines()[-TAIL:]))

    async def is_refused(self, process: ConnectorProcess) -> None:
        """Check that a process ends, and says why."""
        assert process.process is not None
        assert await process.process.wait() == ExitStatus.REFUSED
        assert TOO_NEW in process.text()

    async def _is_member(self, process: ConnectorProcess) -> bool:
        assert process.pid is not None, process.text()
        try:
            return process.name in await self.asked(b"SELECT split_part(name, '@', 1) FROM member")
        except psycopg.errors.UndefinedTable:
            return False

    async def holders(self) -> set[str]:
        """Return who holds leases."""
        return await self.asked(
            b"SELECT split_part(member.name, '@', 1) FROM lease JOIN member USING (token)"
        )

    async def versions(self) -> set[str]:
        """Return the version of the tables, and the oldest whose programs may use them."""
        return await self.asked(b"SELECT value FROM meta WHERE key = 'kmsconn_tables'")

    async def asked(self, question: bytes) -> set[str]:
        """Return the texts that the database answers."""

        def ask() -> set[str]:
            return {text for (text,) in self.connection.execute(question)}

        return await trio.to_thread.run_sync(ask)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Return once something holds, in one of the processes."""
    while not await holds():  # noqa: ASYNC110 - other processes make it so
        await trio.sleep(LOOK_AGAIN)


@asynccontextmanager
async def rollout(folder: Path, server: Cluster, database: str) -> AsyncIterator[Rollout]:
    """Run two processes of today's program under a load while the block lasts; all must be answered at the end, and nothing twice."""
    done: dict[str, Any] = {}
    url = server.url(database, tcp=True)
    arguments = ("--size", "205", "--computing", "0.01", *HISTORY)
    with trio.fail_after(PATIENCE), psycopg.connect(url, autocommit=True) as connection:
        async with open_dependencies(folder, *arguments) as dependencies:
            made = Rollout(dependencies, url, connection)

            async def offer() -> None:
                wanted = {"rate": RATE, "seconds": SECONDS, "reply_timeout": PATIENCE / 2}
                done.update(await dependencies.post("/load", wanted))

            try:
                for one in [await made.start(), await made.start()]:
                    await made.joins(one)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(offer)
                    yield made
                status = await dependencies.get("/status")
            except BaseException:
                made.show()
                raise
            finally:
                await end_all(made.processes)  # noqa: ASYNC102 - shields itself, with a deadline
    assert verdict_of(status, done["offered"]).well, status
    assert (status["emitted"], status["answered"]) == (RATE * SECONDS, RATE * SECONDS)
    assert not [one.name for one in made.processes if "Traceback" in one.text()]


async def test_a_newer_version_extends_the_tables_while_the_older_one_works_and_is_replaced(
    postgresql: Cluster, database: str, tmp_path: Path
) -> None:
    program = newer_program(tmp_path / "newer", COMPATIBLE)
    async with rollout(tmp_path, postgresql, database) as made:
        first, second = made.processes
        newer = await made.start(program)
        await made.joins(newer)
        assert await made.versions() == {f"{VERSION + 1} {COMPATIBLE}"}
        assert await first.end(signal.SIGTERM) == 0
        further = await made.start()
        await made.joins(further)
        assert await second.end(signal.SIGTERM) == 0
        assert await further.end(signal.SIGTERM) == 0
        await until(lambda: _is_alone(made, newer))
        assert await made.asked(b"SELECT DISTINCT newer_0::text FROM request") == {"7"}
    assert not [one.name for one in made.processes if "starting anew" in one.text()]


async def _is_alone(made: Rollout, process: ConnectorProcess) -> bool:
    return await made.holders() == {process.name}


async def test_a_version_that_excludes_an_older_one_ends_it_and_the_one_between_goes_on(
    postgresql: Cluster, database: str, tmp_path: Path
) -> None:
    """The older one is at work when its tables are changed."""
    between = newer_program(tmp_path / "between", COMPATIBLE)
    newest = newer_program(tmp_path / "newest", COMPATIBLE, VERSION + 1)
    async with rollout(tmp_path, postgresql, database) as made:
        older = tuple(made.processes)
        middle = await made.start(between)
        await made.joins(middle)
        last = await made.start(newest)
        for one in older:
            await made.is_refused(one)
        assert await made.versions() == {f"{VERSION + 2} {VERSION + 1}"}
        await made.joins(last)
        await made.joins(middle)
        await made.is_refused(await made.start())
        assert await made.holders() <= {middle.name, last.name}
