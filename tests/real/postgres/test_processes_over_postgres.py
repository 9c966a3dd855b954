"""``kmsconn run`` as several processes over one journal, the commands beside them, and a journal that moves to a file."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from bench.cluster import Cluster
from kmsconn.operate.control.server import ask_running
from tests.e2e.test_process import RATE, SECONDS, Scene, assert_well, command, installed, scene

pytestmark = pytest.mark.slow

LONGER = 3 * SECONDS
"""Seconds of load, so that there is something to do after each step."""
PATIENCE = 240.0
"""Seconds for a whole test on a busy machine: it starts a dozen processes, one after the other, each of which may take ten."""


@attrs.frozen
class Group:
    """Processes over one journal; ``url`` has the password."""

    scene: Scene
    url: str = attrs.field(repr=False)

    def variables(self, name: str, **more: str) -> dict[str, str]:
        """Return the environment of one process."""
        own = {
            "KMS_CONNECTOR_JOURNAL": self.url,
            "KMS_CONNECTOR_SERVICE_NAME": name,
            "KMS_CONNECTOR_MONITORING_ENDPOINT": "127.0.0.1:0",
            "KMS_CONNECTOR_CONTROL_SOCKET": str(self.scene.logs / f"{name}.sock"),
            "KMS_CONNECTOR_LEASE": "2s",
        }
        return {**own, **more}

    async def ask(self, *arguments: str, name: str = "nobody") -> subprocess.CompletedProcess[bytes]:
        """Run a command with the configuration of a process; of one that is not there, the journal is asked."""
        words = [*arguments, "-c", str(self.scene.config)]
        return await self.run(*words, **self.variables(name))

    async def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command line."""
        environment = {**os.environ, **variables}
        return await trio.run_process(
            command(*arguments), capture_stdout=True, capture_stderr=True, check=False, env=environment
        )

    async def status(self, name: str = "nobody") -> Any:
        """Return the status that one process tells, or the journal."""
        asked = await self.ask("status", "--json", name=name)
        assert asked.returncode == 0, asked.stderr.decode()
        return json.loads(asked.stdout)

    async def told(self, name: str, condition: Callable[[Any], Any]) -> None:
        """Return once the status that one process tells is as asked for."""
        while not condition(await ask_running(self.scene.logs / f"{name}.sock", "status", {})):
            await trio.sleep(0.1)

    async def both_are_there(self) -> None:
        """Return once two processes are members and one of them reads."""
        await self.told(
            "first",
            lambda found: len(found["processes"]) == 2 and any(one["leases"] for one in found["processes"]),
        )


@asynccontextmanager
async def group(folder: Path, url: str) -> AsyncIterator[Group]:
    """Run the emulator, and give what runs processes over a journal."""
    more = ("--rate", str(RATE // 2), "--duration", str(LONGER))
    async with scene(folder, *more, reply_timeout=PATIENCE) as running:
        running.lock = "postgres.txt"
        yield Group(running, url)


@pytest.mark.rotating
async def test_a_process_that_is_killed_is_replaced_and_nothing_is_lost_or_doubled(
    postgresql: Cluster, database: str, tmp_path: Path
) -> None:
    async with group(tmp_path, postgresql.url(database, tcp=True)) as made, AsyncExitStack() as stack:
        first = await stack.enter_async_context(made.scene.connector(**made.variables("first")))
        await made.scene.is_included()
        await stack.enter_async_context(made.scene.connector(**made.variables("second")))
        await made.both_are_there()
        first.kill()
        assert_well(await made.scene.verdict(), RATE // 2 * LONGER)


@pytest.mark.rotating
async def test_commands_work_beside_the_processes_and_the_journal_moves_to_a_file(
    postgresql: Cluster, database: str, tmp_path: Path
) -> None:
    file = tmp_path / "moved.db"
    url = postgresql.url(database, tcp=True)
    copy = ("journal", "copy", url, f"sqlite:///{file}")
    async with group(tmp_path, url) as made:
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(made.scene.connector(**made.variables("first")))
            await made.scene.is_included()
            second = await stack.enter_async_context(made.scene.connector(**made.variables("second")))
            await made.both_are_there()
            of_one = await made.status("first")
            assert of_one["running"]
            assert {one["name"].partition("@")[0] for one in of_one["processes"]} == {"first", "second"}
            await _paused_for_both(made)
            listed = await made.ask("requests", "list", "--limit", "1")
            explained = await made.ask("explain", "1")
            assert (listed.returncode, explained.returncode) == (0, 0)
            assert b"once the connector runs again" not in explained.stdout
            refused = await made.run(*copy)
            assert (refused.returncode, b"is in use by first@" in refused.stderr) == (3, True)
            for process in (first, second):
                process.terminate()
                assert await process.wait() == 0
        copied = await made.run(*copy)
        assert (copied.returncode, b"both have the same rows" in copied.stdout) == (0, True), copied.stderr
        said = [one.stdout + one.stderr for one in (listed, explained, refused, copied)]
        assert not [one for one in (*said, *logs(tmp_path)) if postgresql.password.encode() in one]
        async with made.scene.connector(KMS_CONNECTOR_JOURNAL=f"sqlite:///{file}"):
            assert_well(await made.scene.verdict(), RATE // 2 * LONGER)


def logs(folder: Path) -> list[bytes]:
    """Return what the processes have logged."""
    return [log.read_bytes() for log in folder.glob("run-*.log")]


async def _paused_for_both(made: Group) -> None:
    """Pause a kind by way of the journal, as from another machine, and see it in both processes."""
    assert (await made.ask("pause", "public_decryption", "--reason", "a test")).returncode == 0
    with trio.fail_after(PATIENCE / 4):
        for name in ("first", "second"):
            await made.told(name, lambda found: found["alerts"])
    resumed = await made.ask("resume", "public_decryption", name="second")
    assert (resumed.returncode, b"is resumed" in resumed.stdout) == (0, True)


async def test_without_the_package_a_process_says_what_to_install(tmp_path: Path) -> None:
    async with group(tmp_path, "postgresql://db.invalid/k") as made:
        made.scene.lock = "run.txt"
        refused = await trio.run_process(
            installed("run.txt", "run", "-c", str(made.scene.config)),
            capture_stderr=True,
            capture_stdout=True,
            check=False,
            env={**os.environ, **made.variables("first")},
        )
        assert refused.returncode == 3
        assert b"pip install 'kmsconn[postgres]'" in refused.stderr
