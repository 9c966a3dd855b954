"""A connector that runs for months keeps its journal small, and misses nothing for it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.follower import HeadTracker
from kmsconn.connector.connector import open_connector
from kmsconn.errors import JournalFailed
from kmsconn.journal import inspecting, recording, retention
from kmsconn.journal.database import Database
from kmsconn.journal.journal import DISK_PAUSE, until_kept
from kmsconn.journal.queries import JournalPlace
from kmsconn.model.events import (
    AlertCleared,
    AlertRaised,
    Event,
    ReplyFinalized,
    ReplyIncluded,
    ReplySigned,
    RequestClosed,
    RequestRecorded,
)
from kmsconn.model.requests import Kind
from kmsconn.requests import retaining
from kmsconn.requests.retaining import SETTLED, final_block, retain
from tests.unit.requests.bench import PROFILE, SETTINGS, Bench
from tests.unit.requests.bench import wall as bench_wall
from tests.unit.requests.few_components import FewComponents, few_components, wall
from tests.vectors import log_of, request

DAY = 86_400.0


def whole(path: Path) -> int:
    """Return how many rows still have their signed bytes."""
    return stored(path, "sum(length(raw) > 0)")


def rows(path: Path) -> int:
    return stored(path, "count(*)")


def stored(path: Path, what: str) -> int:
    file = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    (number,) = file.execute(f"SELECT {what} FROM request").fetchone()  # noqa: S608 - our own literals
    file.close()
    return int(number or 0)


@attrs.define
class Calendar:
    """This machine's clock, which a test turns on by days; the chains have their own."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return wall() + self.ahead * DAY


@pytest.mark.slow
@pytest.mark.once
async def test_rows_are_cleared_and_then_deleted_and_no_start_misses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the defaults: a week, ninety days."""
    monkeypatch.setattr(retaining, "SETTLED", 60.0)
    monkeypatch.setattr(retaining, "RETENTION_INTERVAL", 60.0)
    seen: list[Event] = []
    calendar = Calendar()
    with trio.fail_after(3600):
        async with few_components(tmp_path, block_time=2.0) as components:
            settings = components.settings(decryption_from_block_number=0)
            ports = attrs.evolve(components.ports, wall=calendar)
            async with open_connector(settings, ports=ports, on_event=seen.append) as connector:
                await connector.wait_ready()
                for _ in range(3):
                    components.traffic.forms["public"]()
                await trio.sleep(150)
                assert len([e for e in seen if isinstance(e, ReplyFinalized)]) == 3
                assert whole(components.journal) == 3
                calendar.ahead = 6.9
                await trio.sleep(130)
                assert whole(components.journal) == 3
                calendar.ahead = 7.1
                await trio.sleep(130)
                assert (whole(components.journal), rows(components.journal)) == (0, 3)
                calendar.ahead = 90.1
                await trio.sleep(130)
                assert rows(components.journal) == 0
                counts = connector.statistics().queue.counts
                assert counts is not None
                assert sum(counts.deleted.values()) == 3
            seen.clear()
            async with open_connector(settings, ports=ports, on_event=seen.append) as connector:
                await connector.wait_ready()
                components.traffic.forms["public"]()
                await trio.sleep(100)
                assert connector.statistics().queue.gaps == 0
    assert [e for e in seen if isinstance(e, AlertRaised) and e.cause == "missing-requests"] == []
    assert len([e for e in seen if isinstance(e, ReplyIncluded)]) == 1


async def test_nothing_is_final_before_a_head_is_known() -> None:
    assert final_block(HeadTracker()) is None


async def test_what_is_final_is_far_below_the_head_and_not_above_the_finalized_block() -> None:
    head, finalized = HeadTracker(), HeadTracker()
    head.note(100_000, 1_000_000)
    head.note(100_100, 1_000_100)
    deep = 100_100 - SETTLED
    assert final_block(head, finalized) == deep
    finalized.note(90_000, 999_000)
    assert final_block(head, finalized) == 90_000


@pytest.mark.parametrize(
    ("days", "mark", "block", "left"),
    [(91, 0, 10, 0), (89, 0, 10, 1), (91, None, 10, 1), (91, -1, 10, 1), (91, 0, 99_999, 1)],
    ids=["not needed", "young", "no mark", "above the mark", "not final"],
)
async def test_a_log_that_could_not_be_decoded_is_deleted_once_the_proof_of_completeness_has_passed_it(
    days: int, mark: int | None, block: int, left: int, *, bench: Bench
) -> None:
    """``mark``: where the low-water marks stand, relative to the id of the log."""
    run, of = bench.journal.run, PROFILE.subscriptions()[0]
    log = attrs.evolve(log_of(request("public_one_v0")), block_number=block)
    await run(recording.record, attrs.evolve(bench.read(log), undecodable=((log, "no such layout"),)))
    if mark is not None:
        place = JournalPlace(int.from_bytes(log.topics[1]) + mark, block)
        for kind in (Kind.PUBLIC_DECRYPTION, Kind.USER_DECRYPTION):
            await run(retention.raise_low_water, of.chain_id, of.contract, kind, place)
    head = HeadTracker()
    head.note(100_000, 1_000_000)
    chain = SimpleNamespace(head=head, finalized=HeadTracker(), endpoint=None)
    components: Any = SimpleNamespace(
        settings=SETTINGS,
        profile=PROFILE,
        journal=bench.journal,
        chain_contexts=dict.fromkeys((one.chain_id for one in PROFILE.subscriptions()), chain),
        ports=SimpleNamespace(wall=lambda: bench_wall() + days * DAY),
    )
    with trio.move_on_after(60):
        await retain(components)
    assert len(await run(inspecting.undecodable_logs, of.chain_id, of.contract)) == left


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
async def test_a_full_disk_is_named_and_waited_out(components: FewComponents, disk: Any) -> None:
    with trio.fail_after(600):
        async with components.running() as (_, seen):
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


async def test_a_journal_file_open_to_others_is_named(components: FewComponents) -> None:
    components.journal.touch(mode=0o644)
    async with components.running() as (_, seen):
        pass
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
    components: FewComponents, tmp_path: Path, suffix: Any
) -> None:
    with trio.fail_after(600):
        async with components.running() as (_, seen):
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


async def test_a_journal_file_that_is_replaced_is_told_so(components: FewComponents) -> None:
    async with components.running() as (_, seen):
        another = components.journal.with_name("another")
        another.write_bytes(components.journal.read_bytes())
        another.rename(components.journal)
        await trio.sleep(5)
    assert [e.critical for e in seen if isinstance(e, AlertRaised) and "was replaced" in e.text] == [True]
