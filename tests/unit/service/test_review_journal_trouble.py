"""A disk that is full for a while stops nobody for good: named, waited out, and over when something could be written again."""

from __future__ import annotations

import sqlite3

import pytest
import trio

from kmsconn.errors import JournalFailed
from kmsconn.journal.book import Book
from kmsconn.model.events import AlertCleared, AlertRaised, ReplyLanded, RequestClosed
from kmsconn.service.connector import open_connector
from kmsconn.service.retrying import DISK_PAUSE, until_kept
from tests.unit.service.small_house import small_house


@pytest.fixture
def disk(monkeypatch):
    """A disk that a test can fill: nothing is committed then, reads included."""
    full = []
    commit = Book.commit

    def fail(book: Book) -> None:
        if full:
            raise sqlite3.OperationalError("database or disk is full")
        commit(book)

    monkeypatch.setattr(Book, "commit", fail)
    return full


async def test_a_full_disk_is_named_and_waited_out(autojump_clock, tmp_path, disk) -> None:
    seen = []
    with trio.fail_after(600):
        async with (
            small_house(tmp_path) as house,
            open_connector(house.settings(), ports=house.ports, on_event=seen.append) as connector,
        ):
            await connector.wait_ready()
            disk.append("full")
            house.traffic.forms["public"]()
            await trio.sleep(30)
            told = [
                event for event in seen if isinstance(event, AlertRaised) and event.dependency == "journal"
            ]
            assert [(event.critical, "disk is full" in event.text) for event in told] == [(True, True)]
            assert AlertCleared("journal", "unwritable") not in seen
            disk.clear()
            await trio.sleep(60)
    assert seen.count(AlertCleared("journal", "unwritable")) == 1
    assert [event for event in seen if isinstance(event, ReplyLanded)]
    assert not [event for event in seen if isinstance(event, RequestClosed)]


async def test_a_journal_file_open_to_others_is_named(autojump_clock, tmp_path) -> None:
    (tmp_path / "journal.db").touch(mode=0o644)
    seen = []
    async with (
        small_house(tmp_path) as house,
        open_connector(house.settings(), ports=house.ports, on_event=seen.append) as connector,
    ):
        await connector.wait_ready()
    assert [
        "chmod 600" in e.text for e in seen if isinstance(e, AlertRaised) and e.dependency == "journal file"
    ] == [True]


async def test_a_step_of_the_journal_is_tried_until_it_is_kept(autojump_clock) -> None:
    tries = []

    async def step() -> str:
        await trio.lowlevel.checkpoint()
        tries.append(trio.current_time())
        if len(tries) < 3:
            raise JournalFailed("full")
        return "kept"

    assert await until_kept(step) == "kept"
    assert tries[-1] - tries[0] == pytest.approx(2 * DISK_PAUSE)
