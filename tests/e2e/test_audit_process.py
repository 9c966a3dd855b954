"""The audit log of the real command: killed by signal 9 under a load, its last line torn, and whole after the next start."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
import trio

from tests.e2e.test_process import COUNT, assert_well, command, scene

pytestmark = pytest.mark.sampled


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
