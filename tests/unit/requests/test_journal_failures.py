"""A disk that is full for a while stops nobody for good: named, waited out, and over when something could be written again."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.connector.connector import open_connector
from kmsconn.emulator import core_faults
from kmsconn.errors import JournalFailed
from kmsconn.journal.database import Database
from kmsconn.journal.journal import DISK_PAUSE, until_kept
from kmsconn.model.events import (
    AlertCleared,
    AlertRaised,
    Event,
    ReplyIncluded,
    ReplySigned,
    RequestClosed,
    RequestRecorded,
)
from tests.unit.requests.few_components import few_components


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A disk that a test can fill: nothing is committed then, reads included."""
    full: list[Any] = []
    commit = Database.commit

    def fail(db: Database) -> None:
        if full:
            raise sqlite3.OperationalError("database or disk is full")
        commit(db)

    monkeypatch.setattr(Database, "commit", fail)
    return full


@pytest.mark.slow
async def test_a_full_disk_is_named_and_waited_out(tmp_path: Path, disk: Any) -> None:
    seen: list[Event] = []
    with trio.fail_after(600):
        async with (
            few_components(tmp_path) as components,
            open_connector(components.settings(), ports=components.ports, on_event=seen.append) as connector,
        ):
            await connector.wait_ready()
            disk.append("full")
            components.traffic.forms["public"]()
            await trio.sleep(30)
            told = [event for event in seen if isinstance(event, AlertRaised)]
            assert [(one.dependency, one.critical, "disk is full" in one.text) for one in told] == [
                ("journal", True, True)
            ]
            assert AlertCleared("journal", "unwritable") not in seen
            disk.clear()
            await trio.sleep(60)
    assert seen.count(AlertCleared("journal", "unwritable")) == 1
    assert [event for event in seen if isinstance(event, ReplyIncluded)]
    assert not [event for event in seen if isinstance(event, RequestClosed)]


async def test_a_journal_file_open_to_others_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal.db").touch(mode=0o644)
    seen: list[Event] = []
    async with (
        few_components(tmp_path) as components,
        open_connector(components.settings(), ports=components.ports, on_event=seen.append) as connector,
    ):
        await connector.wait_ready()
    assert [
        "chmod 600" in e.text for e in seen if isinstance(e, AlertRaised) and e.dependency == "journal file"
    ] == [True]


async def test_a_step_of_the_journal_is_tried_until_it_is_kept() -> None:
    tries = []

    async def step() -> str:
        await trio.lowlevel.checkpoint()
        tries.append(trio.current_time())
        if len(tries) < 3:
            raise JournalFailed("full")
        return "kept"

    assert await until_kept(step) == "kept"
    assert tries[-1] - tries[0] == pytest.approx(2 * DISK_PAUSE)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["", "-wal", ".lock"])
async def test_a_journal_file_that_is_removed_or_moved_away_is_noticed_and_nothing_is_recorded(
    tmp_path: Path, suffix: Any
) -> None:
    seen: list[Event] = []
    with trio.fail_after(600):
        async with (
            few_components(tmp_path) as components,
            open_connector(components.settings(), ports=components.ports, on_event=seen.append) as connector,
        ):
            await connector.wait_ready()
            file = components.journal.with_name(components.journal.name + suffix)
            file.rename(tmp_path / "elsewhere")
            await trio.sleep(5)  # nothing happens meanwhile, and yet it is noticed
            told = [e for e in seen if isinstance(e, AlertRaised) and e.dependency == "journal"]
            assert [(e.critical, str(file) in e.text, "removed" in e.text) for e in told] == [
                (True, True, True)
            ]
            assert "Move the same file back" in told[0].remedy
            components.traffic.forms["public"]()
            await trio.sleep(60)
            assert not [e for e in seen if isinstance(e, RequestRecorded | ReplySigned)]
            (tmp_path / "elsewhere").rename(file)
            await trio.sleep(60)
    assert seen.count(AlertCleared("journal", "misplaced")) == 1
    assert [event for event in seen if isinstance(event, ReplyIncluded)]


async def test_a_journal_file_that_is_replaced_is_told_so(tmp_path: Path) -> None:
    seen: list[Event] = []
    async with (
        few_components(tmp_path) as components,
        open_connector(components.settings(), ports=components.ports, on_event=seen.append) as connector,
    ):
        await connector.wait_ready()
        (tmp_path / "another").write_bytes(components.journal.read_bytes())
        (tmp_path / "another").rename(components.journal)
        await trio.sleep(5)
    assert [e.critical for e in seen if isinstance(e, AlertRaised) and "was replaced" in e.text] == [True]


@pytest.mark.slow
async def test_a_damaged_row_does_not_crash_the_start_and_its_request_is_answered(tmp_path: Path) -> None:
    """Its event is read again from the chain: the proof of completeness finds its id missing."""
    seen: list[Event] = []
    with trio.fail_after(3600):
        async with few_components(tmp_path, block_time=2.0) as components:
            settings = components.settings(decryption_from_block_number=0)
            async with open_connector(settings, ports=components.ports, on_event=seen.append) as connector:
                await connector.wait_ready()
                core = components.dependencies.cores[0]
                core.strike(core_faults.FailingCore(code="UNAVAILABLE"))
                bad = components.traffic.forms["public"]()
                good = components.traffic.forms["public"]()
                await trio.sleep(20)
            file = sqlite3.connect(components.journal)
            file.execute("UPDATE request SET log = x'00' WHERE rid = 1")
            file.commit()
            file.close()
            assert not [e for e in seen if isinstance(e, ReplyIncluded)]
            seen.clear()
            async with open_connector(settings, ports=components.ports, on_event=seen.append) as connector:
                await connector.wait_ready()
                components.dependencies.cores[0].heal()
                await trio.sleep(300)
    assert [e for e in seen if isinstance(e, AlertRaised) and e.cause == "damaged-rows"]
    assert len({e.rid for e in seen if isinstance(e, ReplyIncluded)}) == 2, (bad, good)
