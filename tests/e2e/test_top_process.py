"""``kmsconn top`` beside a real ``kmsconn run``: over its control socket and its status page, and in a terminal until Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from tests.e2e.test_cli_process import PATIENCE, config, environment, kmsconn, running, until

pytestmark = pytest.mark.sampled

ROWS, COLUMNS = 30, 100


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Give both ends of a terminal of a known size."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


async def read_until(ours: int, text: bytes) -> bytes:
    said = b""
    while text not in said:
        await trio.lowlevel.wait_readable(ours)
        said += os.read(ours, 1 << 16)
    return said


async def test_the_status_comes_over_the_control_socket_and_from_the_status_page(tmp_path: Path) -> None:
    path = config(tmp_path)
    with trio.fail_after(PATIENCE):
        async with running(path) as (_, lines):
            url = (await until(lines, "status page"))["url"]
            await until(lines, "alert_raised")
            status, _, said = await kmsconn("top", "--once", "--url", url.removesuffix("/status"))
            assert status == 0, said
            status, _, said = await kmsconn("top", "--once", "-c", str(path))
            assert (status, said) == (0, "")


async def test_without_a_connector_it_says_so(tmp_path: Path) -> None:
    status, _, said = await kmsconn("top", "--once", "-c", str(config(tmp_path)))
    assert status == 3
    assert "no connector listens at" in said


async def test_ctrl_c_ends_it_without_a_word(tmp_path: Path) -> None:
    path = config(tmp_path)
    command = [sys.executable, "-m", "kmsconn.operate.commands.main", "top", "-c", str(path)]
    with trio.fail_after(PATIENCE), terminal() as (ours, theirs):
        async with running(path) as (_, lines):
            await until(lines, "alert_raised")
            process = await trio.lowlevel.open_process(
                command, stdin=theirs, stdout=theirs, stderr=theirs, env={**environment(), "TERM": "xterm"}
            )
            await read_until(ours, b"starting")
            process.send_signal(2)
            assert await process.wait() == 0
            await trio.lowlevel.wait_readable(ours)
            left = os.read(ours, 1 << 16)
            assert b"Traceback" not in left
            assert b"\x1b[?1049l" in left  # the screen of before is back


async def test_a_demonstration_in_a_terminal_shows_the_same_and_how_it_ended() -> None:
    command = [sys.executable, "-m", "kmsconn.operate.commands.main", "demo", "--requests", "4"]
    with trio.fail_after(PATIENCE), terminal() as (ours, theirs):
        process = await trio.lowlevel.open_process(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env={**environment(), "TERM": "xterm"}
        )
        await read_until(ours, b"transaction manager")
        await read_until(ours, b"every request was answered once")
        assert await process.wait() == 0
