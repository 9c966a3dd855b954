"""The commands of operators beside a real ``kmsconn run``, and with the journal of one that is stopped."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, make_id
from tests.e2e.test_cli_process import PATIENCE, config, environment, running, until
from tests.e2e.test_requests_process import folder, put
from tests.unit.config.sample_values import KEY

pytestmark = pytest.mark.sampled

__all__ = ["folder"]


async def kmsconn(*arguments: str) -> tuple[int, str, str]:
    result = await trio.run_process(
        [sys.executable, "-m", "kmsconn.operate.commands.main", *arguments],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=environment(),
    )
    return result.returncode, result.stdout.decode(), result.stderr.decode()


async def as_json(*arguments: str) -> Any:
    _, out, err = await kmsconn(*arguments, "--json")
    assert err == ""
    return json.loads(out)


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
    with trio.fail_after(2 * PATIENCE):
        async with running(path) as (process, lines):
            await until(lines, "wallet")
            while not (folder / "journal.db.sock").exists():
                await trio.sleep(0.01)
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
