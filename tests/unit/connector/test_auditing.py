"""From the journal into the audit log, in virtual time."""

from __future__ import annotations

import errno
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.connector.auditing import AUDIT_INTERVAL, AUDIT_RETRY, Auditing
from kmsconn.journal import audit, moves
from kmsconn.journal.audit import AuditFile, verify
from kmsconn.journal.rows import Row
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertCleared, AlertRaised, Event
from kmsconn.transport.ports import offload_inline
from tests.unit.journal.audit.samples import audit_file
from tests.unit.requests.bench import Bench, open_bench


@attrs.define
class Scene:
    bench: Bench
    path: Path
    told: list[Event]

    def transitions(self) -> list[tuple[str | None, str]]:
        lines = [json.loads(line) for line in self.path.read_bytes().splitlines()]
        return [(line.get("from"), line["to"]) for line in lines if line["type"] == "transition"]

    @asynccontextmanager
    async def auditing(self, file: AuditFile | None = None) -> AsyncIterator[None]:
        task = Auditing(
            self.bench.journal,
            file or audit_file(self.path),
            offload_inline,
            Board(self.told.append, trio.current_time),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task.run)
            yield
            nursery.cancel_scope.cancel()

    async def reject(self, row: Row) -> None:
        await self.bench.journal.run(moves.move, "reject", row.rid, reason="no")


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_bench(tmp_path) as bench:
        await bench.journal.run(audit.capture)
        yield Scene(bench, tmp_path / "audit.jsonl", [])


async def test_transitions_are_in_the_log_a_second_later(at: Scene) -> None:
    async with at.auditing():
        await at.reject(await at.bench.record())
        await trio.sleep(AUDIT_INTERVAL + 0.1)
        assert at.transitions() == [(None, "pending"), ("pending", "rejected")]
        assert await at.bench.journal.run(audit.pending, 1) == []


async def test_what_happens_last_is_written_as_the_connector_ends(at: Scene) -> None:
    async with at.auditing():
        await trio.sleep(0.1)
        await at.bench.record()
    assert at.transitions() == [(None, "pending")]


async def test_the_next_process_writes_what_the_one_before_left(at: Scene) -> None:
    await at.bench.record()
    async with at.auditing():
        await trio.sleep(0.1)
    async with at.auditing():
        await trio.sleep(0.1)
    assert at.transitions() == [(None, "pending")]
    assert verify([at.path]).broken == ""


async def test_a_death_between_file_and_journal_writes_nothing_twice(at: Scene) -> None:
    await at.bench.record()
    file = audit_file(at.path)
    file.open(None)
    file.append(await at.bench.journal.run(audit.pending, 10))
    file.close()
    async with at.auditing():
        await trio.sleep(0.1)
    assert at.transitions() == [(None, "pending")]


class FullDisk(AuditFile):
    """A log that takes nothing while ``full``."""

    full = True

    def append(self, happened: Any) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device", "audit.jsonl")
        super().append(happened)


async def test_a_full_disk_is_an_alert_and_transitions_wait(at: Scene) -> None:
    file = FullDisk(at.path, {}, lambda: 0.0)
    async with at.auditing(file):
        await at.reject(await at.bench.record())
        await trio.sleep(1)
        [alert] = at.told
        assert isinstance(alert, AlertRaised)
        assert (alert.dependency, alert.cause, alert.critical) == ("audit log", "unwritable", False)
        assert "No space left" in alert.text
        file.full = False
        await trio.sleep(AUDIT_RETRY + 1)
        assert isinstance(at.told[-1], AlertCleared)
    assert at.transitions() == [(None, "pending"), ("pending", "rejected")]


async def test_a_folder_that_is_not_there_is_an_alert(at: Scene, tmp_path: Path) -> None:
    async with at.auditing(audit_file(tmp_path / "nowhere" / "audit.jsonl")):
        await trio.sleep(1)
    assert "No such file" in str(at.told)


@pytest.mark.parametrize("kept", [0, 1])
async def test_a_log_that_was_cut_is_an_alert_and_a_gap(at: Scene, kept: int) -> None:
    await at.reject(await at.bench.record())
    async with at.auditing():
        await trio.sleep(0.1)
    lines = at.path.read_bytes().splitlines(keepends=True)
    at.path.write_bytes(b"".join(lines[: len(lines) - 2 + kept]))
    async with at.auditing():
        await trio.sleep(0.1)
    assert "lacks transitions" in str(at.told)
    assert len(verify([at.path]).gaps) == 1
