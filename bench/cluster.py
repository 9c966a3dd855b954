"""A PostgreSQL server for one measurement: a new cluster in a folder of its own, on loopback. Measures nothing.

PostgreSQL refuses to run as root: then it runs as the user ``postgres``, whom Debian's package makes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from bench.processes import running, tail
from kmsconn.emulator.reserved_ports import reserve_ports

GRACE = 20.0
STARTING = 30.0  # seconds in which the server must take connections
LOOK_AGAIN = 0.05
OWNER = "postgres"
DEBIAN = Path("/usr/lib/postgresql")


@attrs.frozen
class Cluster:
    """A running server: its process and the address of an empty database."""

    pid: int
    url: str


@asynccontextmanager
async def open_cluster() -> AsyncIterator[Cluster]:
    """Make a cluster with its own defaults, fsync included, and run it while the block lasts. Raises RuntimeError without PostgreSQL."""
    with _folder() as folder, reserve_ports(1) as (port,):
        data, log = folder / "data", folder / "log"
        made = [program("initdb"), "-D", str(data), "-U", OWNER, "--auth=trust", "--encoding=UTF8"]
        await trio.to_thread.run_sync(partial(_run, made))
        command = [
            program("postgres"),
            "-D",
            str(data),
            "-p",
            str(port),
            "-h",
            "127.0.0.1",
            "-k",
            str(folder),
        ]
        async with running(command, log, grace=GRACE, user=_owner()) as server:
            with trio.fail_after(STARTING):
                await _until_there(port, server, log)
            yield Cluster(server.pid, f"postgresql://{OWNER}@127.0.0.1:{port}/{OWNER}")


def program(name: str) -> str:
    """Return the path of a program of PostgreSQL. Raises RuntimeError where it is not installed."""
    folder = programs()
    if folder is None:
        raise RuntimeError(f"there is no {name}; install Debian's package postgresql")
    return str(folder / name)


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest of those that Debian keeps side by side, or None.

    ``KMSCONN_POSTGRES`` names another one, to try another version.
    """
    if chosen := os.environ.get("KMSCONN_POSTGRES"):
        return Path(chosen)
    installed = sorted(DEBIAN.glob("*/bin/postgres"), key=_version)
    if installed:
        return installed[-1].parent
    found = shutil.which("postgres")
    return Path(found).resolve().parent if found else None


def _version(path: Path) -> int:
    name = path.parents[1].name
    return int(name) if name.isdigit() else 0


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kmsconn-postgres-") as name:
        folder = Path(name)
        if (owner := _owner()) is not None:
            shutil.chown(folder, owner)
        yield folder


def _owner() -> str | None:
    return OWNER if os.getuid() == 0 else None


def _run(command: Sequence[str]) -> None:
    as_owner: dict[str, Any] = {} if _owner() is None else {"user": OWNER}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **as_owner)  # noqa: S603 - our own words
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()}")


async def _until_there(port: int, server: trio.Process, log: Path) -> None:
    """Wait until it takes connections: it listens before, and refuses them."""
    ready = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    while True:
        if server.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended at its start:\n{tail(log)}")
        if (await trio.run_process(ready, check=False)).returncode == 0:
            return
        await trio.sleep(LOOK_AGAIN)
