"""The commands of operators, and ``kmsconn top``, beside a real ``kmsconn run``, and with the journal of one that is stopped."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import sqlite3
import struct
import sys
import termios
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trio

from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, make_id
from tests.e2e.test_cli_process import (
    PATIENCE,
    as_json,
    config,
    environment,
    kmsconn,
    listening,
    running,
    until,
)
from tests.e2e.test_process import COUNT, assert_well, command, scene
from tests.e2e.test_requests_process import folder, put
from tests.unit.config.sample_values import KEY

pytestmark = pytest.mark.sampled
__all__ = ["folder"]


def put_log(journal: Path) -> None:
    """Quarantine a log that no version decodes."""
    with closing(sqlite3.connect(journal)) as file, file:
        file.execute(
            "INSERT INTO quarantined_log (chain_id, block_hash, log_index, contract, block, transaction_hash, log, reason, found_at) "
            "VALUES (1, CAST(x'1a2b3c4d' || zeroblob(28) AS BLOB), 7, zeroblob(20), 10, zeroblob(32), "
            "CAST(x'93c414' || zeroblob(20) || x'90c400' AS BLOB), 'an unknown form', 5)"
        )


async def test_the_commands_work_beside_a_running_connector_and_after_its_end(folder: Path) -> None:
    path, journal = config(folder), folder / "journal.db"
    told = []
    with trio.fail_after(4 * PATIENCE):
        async with listening(path, folder / "journal.db.sock") as (process, lines):
            status, out, err = await kmsconn("status", "-c", str(path))
            assert (status, "up for" in out, "not ready" in out, err) == (0, True, True, "")
            told.append(out)
            paused = await as_json("pause", "-c", str(path), "user_decryption", "--reason", "a test")
            assert paused["changed"]
            raised = await until(lines, "alert_raised")
            while raised["cause"] != "paused":
                raised = await until(lines, "alert_raised")
            assert raised["dependency"] == "user_decryption"
            shown = await as_json("status", "-c", str(path))
            assert [one["kind"] for one in shown["paused"]] == ["user_decryption"]
            told.append(json.dumps(shown))
            status, _, err = await kmsconn("explain", "77", "-c", str(path))
            assert (status, "the journal has no request 77" in err) == (2, True)
            process.terminate()
            await until(lines, "ended")
        for number, state in enumerate(("pending", "rejected", "quarantined", "included", "signed"), start=1):
            put(journal, number, state)
        put_log(journal)
        status, out, _ = await kmsconn("status", "-c", str(path))
        assert (status, "stopped" in out, "PAUSED         user_decryption" in out) == (0, True, True)
        status, _, err = await kmsconn("explain", "77", "-c", str(path))
        assert (status, err) == (
            2,
            "kmsconn: the journal has no request 77; `kmsconn requests list` shows its requests\n",
        )
        await _explained(path)
        await _skipped(path)
        await _quarantined(path)
        resumed = await as_json("resume", "-c", str(path), "user_decryption")
        assert (resumed["changed"], resumed["paused"]) == (True, [])
        status, _, err = await kmsconn("replay", "--dry-run", "-c", str(path), "4")
        assert (status, "keeps no answer" in err) == (2, True)
    assert KEY.removeprefix("0x") not in "".join(told)


async def _explained(path: Path) -> None:
    for row, state, following in (
        ("1", "pending", "once the connector runs again: a worker takes it"),
        ("2", "rejected", "`kmsconn requests retry` begins it again"),
        ("3", "quarantined", "`kmsconn quarantine retry` begins it again"),
        ("4", "included", "becomes final"),
    ):
        status, out, _ = await kmsconn("explain", "-c", str(path), row)
        assert (status, out.splitlines()[0].endswith(state), following in out) == (0, True, True), out


async def _skipped(path: Path) -> None:
    status, out, _ = await kmsconn("skip", "-c", str(path), f"0x{make_id(PUBLIC_DECRYPTION_TAG, 1):x}", "--reason", "lost")  # fmt: skip
    assert (status, "is skipped" in out) == (0, True)
    status, out, _ = await kmsconn("skip", "-c", str(path), "5", "--reason", "lost")
    assert (status, "cannot be taken back" in out) == (3, True)


async def _quarantined(path: Path) -> None:
    listed = await as_json("quarantine", "list", "-c", str(path))
    assert [one["log"] for one in listed["logs"]] == ["0x1a2b3c4d:7"]
    assert [one["row"] for one in listed["requests"]] == [3]
    status, out, _ = await kmsconn("quarantine", "retry", "-c", str(path), "0x1a2b3c4d:7")
    assert (status, "is unchanged" in out) == (3, True)
    status, out, _ = await kmsconn("quarantine", "drop", "-c", str(path), "0x1a2b3c4d:7")
    assert (status, "is dropped" in out) == (0, True)
    dropped = await as_json("quarantine", "drop", "-c", str(path), "3", "--reason", "a test")
    assert [one["row"] for one in dropped["dropped"]] == [3]
    status, out, _ = await kmsconn("quarantine", "list", "-c", str(path))
    assert (status, out) == (0, "nothing is quarantined\n")


async def exported(path: Path) -> list[dict[str, object]]:
    """Verify a log and return its transitions, both by the command."""
    verified = await trio.run_process(command("audit", "verify", str(path)), capture_stdout=True)
    assert verified.stdout.startswith(b"the chain holds: ")
    ended = await trio.run_process(command("audit", "export", str(path)), capture_stdout=True)
    return [json.loads(line) for line in ended.stdout.splitlines()]


def _starts(path: Path) -> int:
    return path.read_bytes().count(b'"type":"started"') if path.exists() else 0


async def has_started(path: Path, times: int) -> None:
    """Return once so many processes have begun to write a log."""
    while _starts(path) < times:  # noqa: ASYNC110 - another process writes it
        await trio.sleep(0.05)


async def test_every_transition_is_there_once_after_kills_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audited = {"KMS_CONNECTOR_AUDIT_LOG": str(path)}
    async with scene(tmp_path, "--computing", "0.2") as running:
        for starts in (1, 2):
            async with running.connector(**audited) as connector:
                await has_started(path, starts)
                await trio.sleep(0.5)
                connector.kill()
                await connector.wait()
            with path.open("ab") as file:
                file.write(b'{"number":99,"type":"tran')
        async with running.connector(**audited) as connector:
            assert_well(await running.verdict())
            connector.terminate()
            await connector.wait()
    rows = defaultdict(list)
    for line in await exported(path):
        rows[line["row"]].append((line.get("from"), line["to"]))
    assert len(rows) == COUNT
    assert sum(steps[-1][1] == "signed" for steps in rows.values()) < COUNT
    for steps in rows.values():
        assert steps[0] == (None, "pending")
        assert [after[0] for after in steps[1:]] == [before[1] for before in steps[:-1]]
        # the emulator ends with the block of the last reply: the connector may not have seen that block
        assert steps[-1][1] in {"signed", "included", "finalized"}
    assert path.read_bytes().count(b'"type":"repaired"') == 2


async def test_a_changed_line_ends_the_command_with_1(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with scene(tmp_path) as running, running.connector(KMS_CONNECTOR_AUDIT_LOG=str(path)) as connector:
        await running.is_included()
        connector.terminate()
        await connector.wait()
    path.write_bytes(path.read_bytes().replace(b'"to":"answered"', b'"to":"rejected"', 1))
    ended = await trio.run_process(command("audit", "verify", str(path)), check=False, capture_stdout=True)
    assert ended.returncode == 1
    assert ended.stdout.startswith(b"broken: ")


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
            left = await read_until(ours, b"\x1b[?1049l")  # the screen of before is back
            assert await process.wait() == 0
            os.write(theirs, b"the end")
            left += await read_until(ours, b"the end")
            assert b"Traceback" not in left


async def test_a_demonstration_in_a_terminal_shows_the_same_and_how_it_ended() -> None:
    command = [sys.executable, "-m", "kmsconn.operate.commands.main", "demo", "--requests", "4"]
    with trio.fail_after(PATIENCE), terminal() as (ours, theirs):
        process = await trio.lowlevel.open_process(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env={**environment(), "TERM": "xterm"}
        )
        await read_until(ours, b"transaction manager")
        await read_until(ours, b"every request was answered once")
        assert await process.wait() == 0
