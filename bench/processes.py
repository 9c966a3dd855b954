"""Starts processes and ends them, with everything that they started. Knows nothing of what they do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from kmsconn.emulator.network import reserve_ports


@asynccontextmanager
async def running(command: Sequence[str], log: Path, *, grace: float) -> AsyncIterator[trio.Process]:
    """Run a command in a session of its own, with its output in a file; SIGTERM at the end, SIGKILL after ``grace`` seconds."""
    with log.open("ab") as file:
        process = await trio.lowlevel.open_process(
            command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            send(process, signal.SIGTERM)
            with trio.move_on_after(grace, shield=True):
                await process.wait()
            send(process, signal.SIGKILL)


@asynccontextmanager
async def running_module(module: str, *arguments: object) -> AsyncIterator[trio.Process]:
    """Run a module of this package while the block lasts, with its input and output in our hands; it is killed at the end."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def send(process: trio.Process, number: signal.Signals) -> None:
    """Signal the whole session that a process was started in; one that is gone needs none."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def tail(log: Path, lines: int = 20) -> str:
    """Return the end of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


@contextmanager
def kept(prefix: str, target: Path | None) -> Iterator[Path]:
    """Give a temporary folder, and copy what is in it to ``target`` before it goes, if one is named."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        try:
            yield Path(name)
        finally:
            if target is not None:
                shutil.copytree(name, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))


GRACE = 5.0
STARTING = 60.0  # seconds in which the emulator must be there
LOOK_AGAIN = 0.05


@attrs.frozen
class EmulatedDependencies:
    """A running ``kmsconn emulate``; ``config`` is the file that it wrote for the connector."""

    pid: int
    config: Path
    control: str

    async def get(self, path: str) -> Any:
        """Ask something. Raises OSError when the emulator is not there or refuses."""
        return await self._exchange(urllib.request.Request(self.control + path))  # noqa: S310 - our own loopback URL

    async def post(self, path: str, content: Mapping[str, Any] | None = None) -> Any:
        """Have something done, and wait until it is. Raises OSError as `get` does."""
        body = json.dumps(content or {}).encode()
        return await self._exchange(urllib.request.Request(self.control + path, body))  # noqa: S310

    async def delete(self, path: str) -> Any:
        """End something. Raises OSError as `get` does."""
        return await self._exchange(urllib.request.Request(self.control + path, method="DELETE"))  # noqa: S310

    async def _exchange(self, request: urllib.request.Request) -> Any:
        body = await trio.to_thread.run_sync(partial(_read, request), abandon_on_cancel=True)
        return json.loads(body) if body else None


def _read(request: urllib.request.Request) -> bytes:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as response:
        content: bytes = response.read()
    return content


@asynccontextmanager
async def open_dependencies(folder: Path, *arguments: str) -> AsyncIterator[EmulatedDependencies]:
    """Start the emulator without a load and wait until it serves."""
    config = folder / "connector.toml"
    module = ["-m", "kmsconn.operate.commands.main", "emulate", "--rate", "0", "--write-config", str(config)]
    with reserve_ports(1) as (port,):
        command = [sys.executable, *module, "--control", str(port), *arguments]
        async with running(command, folder / "emulator.log", grace=GRACE) as process:
            with trio.fail_after(STARTING):
                await _until_there(config, process)
            yield EmulatedDependencies(process.pid, config, f"http://127.0.0.1:{port}")


async def _until_there(config: Path, process: trio.Process) -> None:
    while not await trio.Path(config).exists():
        if process.poll() is not None:
            raise RuntimeError("the emulator ended at its start; see emulator.log")
        await trio.sleep(LOOK_AGAIN)
