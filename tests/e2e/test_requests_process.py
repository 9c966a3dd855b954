"""``kmsconn requests`` beside a real ``kmsconn run``, and with the journal of one that is stopped."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trio

from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, make_id
from tests.e2e.test_cli_process import PATIENCE, as_json, config, kmsconn, listening, running, until

pytestmark = pytest.mark.sampled

NOBODY_ID = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a short path that every user can enter, as /run is one."""
    with tempfile.TemporaryDirectory(prefix="kmsconn-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


requests = partial(kmsconn, "requests")


def put(journal: Path, number: int, state: str) -> None:
    """Let a request have come to an end: as of a connector that was stopped since."""
    with closing(sqlite3.connect(journal)) as file, file:
        file.execute(
            "INSERT INTO request (chain_id, contract, id, digest, kind, state, on_chain, block, log_index, block_hash, "
            "transaction_hash, next_attempt, max_wait, deadline, recorded_at, log, reason) "
            "VALUES (1, zeroblob(20), ?, ?, 'public_decryption', ?, 1, 10, 0, zeroblob(32), zeroblob(32), 0, 60, 9, 5, "
            "CAST(x'93c414' || zeroblob(20) || x'90c400' AS BLOB), 'the Core said INTERNAL')",
            (make_id(PUBLIC_DECRYPTION_TAG, number).to_bytes(32), bytes([number]) * 32, state),
        )
        file.execute("INSERT OR IGNORE INTO cursor VALUES (1, zeroblob(20), 11, 10, 10, 0)")


async def test_it_asks_the_running_connector_over_a_socket_of_its_owner_alone(folder: Path) -> None:
    path = config(folder)
    control = folder / "journal.db.sock"
    with trio.fail_after(PATIENCE):
        async with listening(path, control) as (process, lines):
            assert stat.S_IMODE(control.stat().st_mode) == 0o600
            assert await as_json("requests", "list", "-c", str(path)) == {"requests": [], "before": None}
            status, out, _ = await requests("list", "--socket", str(control))
            assert (status, out) == (0, "no request matches\n")
            status, _, err = await requests("show", "77", "-c", str(path))
            assert (status, err) == (
                2,
                "kmsconn: the journal has no request 77; `kmsconn requests list` shows its requests\n",
            )
            process.terminate()
            await until(lines, "ended")
        assert not control.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a moment")
async def test_another_user_may_not_ask(folder: Path) -> None:
    path = config(folder)
    control = folder / "journal.db.sock"
    connect = (
        f"import os, socket; os.setuid({NOBODY_ID}); socket.socket(socket.AF_UNIX).connect({str(control)!r})"
    )
    with trio.fail_after(PATIENCE):
        async with listening(path, control):
            result = await trio.to_thread.run_sync(
                lambda: subprocess.run(  # noqa: S603 - this Python; it may lie where nobody else can start it
                    [sys.executable, "-I", "-c", connect], capture_output=True, check=False
                )
            )
    assert result.returncode != 0
    assert b"PermissionError" in result.stderr


async def test_many_who_connect_and_say_nothing_hold_nobody_up_for_long(folder: Path) -> None:
    path = config(folder)
    control = folder / "journal.db.sock"
    with trio.fail_after(PATIENCE):
        async with listening(path, control) as (process, _):
            silent = [socket.socket(socket.AF_UNIX) for _ in range(200)]
            for one in silent:
                one.setblocking(False)
                with trio.socket.from_stdlib_socket(one.dup()) as asking:
                    await asking.connect(str(control))
            descriptors = len(os.listdir(f"/proc/{process.pid}/fd"))  # noqa: PTH208
            assert descriptors < 100
            with trio.fail_after(30):
                while (await requests("list", "-c", str(path)))[0]:
                    await trio.sleep(0.5)
            for one in silent:
                one.close()


async def test_it_opens_the_journal_of_a_stopped_connector_and_lets_requests_begin_again(
    folder: Path,
) -> None:
    path = config(folder)
    journal = folder / "journal.db"
    with trio.fail_after(PATIENCE):
        async with running(path) as (process, lines):
            await until(lines, "wallet")
            process.terminate()
            await until(lines, "ended")
        for number, state in enumerate(("rejected", "quarantined", "expired", "finalized"), start=1):
            put(journal, number, state)
        listed = await as_json(
            "requests", "list", "-c", str(path), "--state", "failed", "--cause", "internal"
        )
        assert [one["state"] for one in listed["requests"]] == ["expired", "quarantined", "rejected"]
        status, out, _ = await requests("list", "-c", str(path))
        assert (status, len(out.splitlines()), "finalized" in out) == (0, 4, True)
        status, out, err = await requests(
            "retry", "-c", str(path), f"0x{make_id(PUBLIC_DECRYPTION_TAG, 4):x}"
        )
        assert (status, "its reply is final already" in out, err) == (3, True, "")
        done = await as_json(
            "requests", "retry", "-c", str(path), "--state", "rejected", "--kind", "public_decryption"
        )
        assert [one["row"] for one in done["retried"]] == [1]
        [shown] = (await as_json("requests", "show", "1", "-c", str(path)))["requests"]
        assert (shown["state"], shown["reason"]) == (
            "pending", "retried by an operator; it had ended as rejected: the Core said INTERNAL"
        )  # fmt: skip
        status, out, _ = await requests("show", "2", "-c", str(path))
        assert (status, "quarantined" in out) == (0, True)


async def test_where_there_is_nothing_it_says_what_to_do(folder: Path) -> None:
    path = config(folder)
    with trio.fail_after(PATIENCE):
        status, _, err = await requests("list", "-c", str(path))
        assert status == 3
        assert (
            f"there is no journal {folder}/journal.db, and no connector listens at {folder}/journal.db.sock"
            in err
        )
        assert not (folder / "journal.db").exists()
        status, _, err = await requests("list", "--socket", str(folder / "none.sock"))
        assert (status, "no connector listens at" in err) == (3, True)


async def test_a_journal_in_use_by_somebody_without_a_socket_is_refused(folder: Path) -> None:
    """As an embedded connector is; or one with another control_socket."""
    path = config(folder, control_socket=f"{folder}/elsewhere.sock")
    with trio.fail_after(PATIENCE):
        async with listening(path, folder / "elsewhere.sock"):
            (folder / "elsewhere.sock").unlink()
            status, _, err = await requests("list", "-c", str(path))
            assert status == 3
            assert "is in use by another process" in err
            assert "no connector listens at" in err


async def test_a_socket_that_cannot_be_made_is_an_alert_and_no_end(folder: Path) -> None:
    path = config(folder, control_socket=f"{folder}/missing/control.sock")
    with trio.fail_after(PATIENCE):
        async with running(path) as (_, lines):
            raised = await until(lines, "alert_raised")
            while raised["dependency"] != "control socket":
                raised = await until(lines, "alert_raised")
            assert "missing/control.sock cannot be made" in raised["text"]


async def test_a_path_that_is_too_long_for_a_socket_is_none_too_long_for_us(folder: Path) -> None:
    deep = folder / ("x" * 100) / ("y" * 100)
    deep.mkdir(parents=True)
    path = config(folder, control_socket=f"{deep}/control.sock")
    with trio.fail_after(PATIENCE):
        async with listening(path, deep / "control.sock"):
            assert await as_json("requests", "list", "-c", str(path)) == {"requests": [], "before": None}


async def test_a_socket_left_by_a_killed_process_is_replaced(folder: Path) -> None:
    path = config(folder)
    control = folder / "journal.db.sock"
    with closing(socket.socket(socket.AF_UNIX)) as stale:
        stale.bind(str(control))
    with trio.fail_after(PATIENCE):
        async with running(path) as (_, lines):
            await until(lines, "wallet")
            with trio.move_on_after(10):
                while (await requests("list", "--socket", str(control)))[0]:
                    await trio.sleep(0.1)
            assert (await requests("list", "--socket", str(control)))[0] == 0
