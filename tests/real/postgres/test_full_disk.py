"""A server whose disk is full, for real: its tables, or its log of commits, stand on a file system that has no room for a while."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import trio

from bench.cluster import Cluster
from kmsconn.model.events import AlertCleared, AlertRaised, Severity
from tests.real.postgres.crowd import Crowd, open_crowd

pytestmark = pytest.mark.slow

FORMS = ("public", "direct", "delegated")
ROOM = {"base": "110M", "pg_wal": "80M"}
"""What a fresh server needs of each folder, and some requests."""
LONG = 60.0
"""Seconds in which a server that has ended itself is back on a busy machine."""


@pytest.fixture(params=ROOM)
def small(own_server: Cluster, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Put a folder of a server on a file system of its own."""
    own_server.stop()
    folder = own_server.data / request.param
    kept = own_server.folder / "kept"
    shutil.move(folder, kept)
    folder.mkdir()
    options = f"size={ROOM[request.param]},mode=0700"
    with ExitStack() as stack:
        if os.geteuid() or _run("mount", "-t", "tmpfs", "-o", options, "none", str(folder)):
            pytest.skip("only root may mount a file system")
        stack.callback(_run, "umount", str(folder))
        _run("cp", "-a", f"{kept}/.", str(folder))
        shutil.chown(folder, kept.stat().st_uid, kept.stat().st_gid)
        stack.callback(own_server.stop)
        own_server.start()
        yield folder


def _run(*command: str) -> int:
    return subprocess.run(command, check=False).returncode  # noqa: S603 - programs of the system


def fill(file: Path) -> None:
    """Leave no room on the file system of a file."""
    with suppress(OSError), file.open("wb", buffering=0) as filling:
        while filling.write(bytes(1 << 16)):
            pass


async def wait_unwritable(crowd: Crowd, kind: type[AlertRaised | AlertCleared]) -> None:
    """Wait until it is told that the journal cannot be used, or that it can."""
    await crowd.wait(lambda: any(one.cause == "unwritable" for one in crowd.of("one", kind)), LONG)


@pytest.mark.rotating
async def test_what_is_asked_while_the_disk_is_full_is_answered_once_there_is_room(
    own_server: Cluster, small: Path
) -> None:
    """Without room for its log the server ends itself and starts anew, again and again; without room for tables it refuses a row."""
    database = own_server.make_database()
    async with open_crowd(own_server.address(database)) as crowd, crowd.living("one"):
        crowd.ask(*FORMS)
        await crowd.wait_answered(3)
        fill(small / "filling")
        async with trio.open_nursery() as supervising:
            supervising.start_soon(_supervise, own_server)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_asking, crowd)
                with suppress(subprocess.CalledProcessError):
                    own_server.run("SELECT pg_switch_wal()")  # what is left of the file in use is large
                await wait_unwritable(crowd, AlertRaised)
                await crowd.wait(lambda: crowd.truth.open)
                nursery.cancel_scope.cancel()
            (small / "filling").unlink()
            await crowd.wait(lambda: crowd.truth.open == (), LONG)
            await wait_unwritable(crowd, AlertCleared)
            supervising.cancel_scope.cancel()
        alerts = [one for one in crowd.of("one", AlertRaised) if one.cause == "unwritable"]
        assert {one.severity for one in alerts} == {Severity.CRITICAL}


async def _asking(crowd: Crowd) -> None:
    while True:
        crowd.ask(*FORMS)
        await trio.sleep(0.25)


async def _supervise(server: Cluster) -> None:
    """Start a server again whenever it has ended: without room it cannot even recover."""
    while True:
        if server.process is not None and server.process.poll() is not None:
            server.launch()
        await trio.sleep(0.1)
