"""The emulated dependencies as a process, and what one asks of its control port. Measures nothing."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from bench.processes import running
from kmsconn.emulator.network import reserve_ports

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
    command = [
        sys.executable,
        "-m",
        "kmsconn.operate.commands.main",
        "emulate",
        "--write-config",
        str(config),
        "--rate",
        "0",
    ]
    with reserve_ports(1) as (port,):
        command += ["--control", str(port), *arguments]
        async with running(command, folder / "emulator.log", grace=GRACE) as process:
            with trio.fail_after(STARTING):
                await _until_there(config, process)
            yield EmulatedDependencies(process.pid, config, f"http://127.0.0.1:{port}")


async def _until_there(config: Path, process: trio.Process) -> None:
    while not await trio.Path(config).exists():
        if process.poll() is not None:
            raise RuntimeError("the emulator ended at its start; see emulator.log")
        await trio.sleep(LOOK_AGAIN)
