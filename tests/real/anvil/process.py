"""anvil as a process on a free loopback port, which can be stopped and started again on its own state. Deploys nothing."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from kmsconn.emulator.network import reserve_ports

STARTING = 20.0  # seconds on a busy machine; undisturbed it is 0.05
STOPPING = 10.0
KEEPING = 5  # seconds between two times that the state is written to its file
_LISTENING = b"Listening on 127.0.0.1:"


@attrs.define(eq=False)
class Anvil:
    """One node. ``block_time`` in seconds; None makes a block of each transaction at once."""

    binary: Path
    chain_id: int
    block_time: float | None
    state: Path
    port: int
    _process: trio.Process | None = None

    @property
    def url(self) -> str:
        """Where its websocket and its HTTP are."""
        return f"ws://127.0.0.1:{self.port}"

    async def start(self, nursery: trio.Nursery) -> None:
        """Start it, from its kept state if there is one, and wait until it listens."""
        run = partial(
            trio.run_process, self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False
        )
        with trio.fail_after(STARTING):
            process: trio.Process = await nursery.start(run)
            self._process = process
            await self._wait_listening(process)
        nursery.start_soon(_drain, process)

    async def stop(self) -> None:
        """End it as a person would; its state is kept in its file."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        with trio.fail_after(STOPPING):
            await self._process.wait()

    def kill(self) -> None:
        """End it without a chance to keep anything."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def wait_kept(self) -> None:
        """Return when the state has been written to its file."""
        with trio.fail_after(KEEPING + STOPPING):
            written = self._written()
            while self._written() == written:  # noqa: ASYNC110 - there is nobody who would tell
                await trio.sleep(0.02)
            await trio.sleep(0.2)  # the file is whole by now

    async def crash(self) -> None:
        """Kill it and see it dead: what came since its state was written, blocks among it, is lost."""
        assert self._process is not None
        self.kill()
        with trio.fail_after(STOPPING):
            await self._process.wait()

    def _written(self) -> int:
        return self.state.stat().st_mtime_ns if self.state.exists() else 0

    async def _wait_listening(self, process: trio.Process) -> None:
        assert process.stdout is not None
        text = b""
        while _LISTENING not in text or b"\n" not in text.split(_LISTENING)[1]:
            chunk = await process.stdout.receive_some()
            assert chunk, f"anvil ended: {text.decode(errors='replace')[-500:]}"
            text += chunk

    def _command(self) -> list[str]:
        options = {
            "--port": self.port,
            "--chain-id": self.chain_id,
            "--state": self.state,
            "--state-interval": KEEPING,
            "--accounts": 1,
            "--order": "fifo",
            "--gas-limit": 300_000_000,
            "--slots-in-an-epoch": 1,  # so that a block is final two blocks later, not 64
        }
        if self.block_time is not None:
            options["--block-time"] = self.block_time
        return [str(self.binary), *(str(part) for pair in options.items() for part in pair)]


async def _drain(process: trio.Process) -> None:
    """Read its log, which nobody wants: a full pipe would stop it."""
    assert process.stdout is not None
    async for _ in process.stdout:
        pass


@asynccontextmanager
async def open_anvil(
    binary: Path, chain_id: int, folder: Path, *, block_time: float | None = None
) -> AsyncIterator[Anvil]:
    """Run a fresh node while the block lasts."""
    with reserve_ports(1) as (port,):
        node = Anvil(binary, chain_id, block_time, folder / f"anvil-{chain_id}.json", port)
        async with trio.open_nursery() as nursery:
            await node.start(nursery)
            try:
                yield node
            finally:
                node.kill()
            nursery.cancel_scope.cancel()
