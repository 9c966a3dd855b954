"""Starts processes and ends them, with everything that they started. Knows nothing of what they do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import trio


@asynccontextmanager
async def running(
    command: Sequence[str],
    log: Path,
    *,
    grace: float,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
) -> AsyncIterator[trio.Process]:
    """Run a command in a session of its own, with its output in a file; SIGTERM at the end, SIGKILL after ``grace`` seconds."""
    with log.open("ab") as file:
        process = await trio.lowlevel.open_process(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            user=user,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            send(process, signal.SIGTERM)
            with trio.move_on_after(grace, shield=True):
                await process.wait()
            send(process, signal.SIGKILL)


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
