"""One damaged row costs that row: it is set aside, and the rest of the journal goes on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kmsconn.journal import queries
from kmsconn.journal.book import Book
from kmsconn.journal.damage import find_odd_rows
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from tests.unit.journal.samples import (
    CHAIN,
    CONTRACT,
    KIND,
    WAYS,
    arrival,
    new_row,
    opened,
    row_of,
    take,
    walk,
)

NOW = 1000.0
DAMAGES = [
    "log = x'00'",
    "log = substr(log, 1, length(log) - 3)",
    "log = x'93c4'",
    "id = x'01'",
    "id = zeroblob(40)",
    "contract = x'dc'",
    "log = CAST('text' AS BLOB)",
]


def damage(book: Book, rid: int, what: str) -> None:
    book.execute(f"UPDATE request SET {what} WHERE rid = ?", (rid,))  # noqa: S608 - our own literals


@pytest.mark.parametrize("what", DAMAGES)
def test_a_row_that_cannot_be_read_is_quarantined_and_the_others_are_due(book: Book, what: str) -> None:
    bad, good = new_row(book, 1, 10), new_row(book, 2, 11)
    damage(book, bad, what)
    assert [row.rid for row in queries.due_of_kinds(book, [KIND], NOW, 5).rows] == [good]
    assert list(book.damaged) == [bad]
    stored = book.execute("SELECT state, on_chain, reason FROM request WHERE rid = ?", (bad,)).fetchone()
    assert stored[:2] == ("quarantined", 0)
    assert stored[2].startswith("damaged: ")


@pytest.mark.parametrize("state", [State.ANSWERED, State.SIGNED, State.INCLUDED])
def test_a_damaged_row_of_the_transaction_manager_is_set_aside(book: Book, state: State) -> None:
    bad, good = (walk(book, new_row(book, number, 10), WAYS[state]) for number in (1, 2))
    damage(book, bad, "log = x'00'")
    looks = {
        State.ANSWERED: lambda: queries.answered(book, CHAIN, NOW, 5).rows,
        State.SIGNED: lambda: queries.signed(book, CHAIN),
        State.INCLUDED: lambda: queries.included(book, CHAIN, 99, 5),
    }
    assert [row.rid for row in looks[state]()] == [good]
    assert [row.rid for row in looks[state]()] == [good]
    assert list(book.damaged) == [bad]


def test_the_first_in_order_is_passed_over_when_it_cannot_be_read(book: Book) -> None:
    kind = Kind.NEW_KMS_CONTEXT
    bad, good = (new_row(book, number, 10 + number, kind=kind) for number in (1, 2))
    damage(book, bad, "log = x'00'")
    assert [one.row.rid for one in queries.in_order(book, [kind], NOW, 9)] == [good]


@pytest.mark.parametrize("what", ["state = 'sfen'", "kind = 'public_decrzption'"])
def test_a_row_that_no_look_would_find_is_set_aside_when_the_journal_is_opened(book: Book, what: str) -> None:
    bad = new_row(book, 1, 10)
    damage(book, bad, what)
    assert queries.counts(book, NOW).states == {}
    find_odd_rows(book)
    assert list(book.damaged) == [bad]
    assert queries.counts(book, NOW).states == {(KIND, State.QUARANTINED): 1}


def test_the_event_of_a_damaged_row_is_taken_as_a_new_request_when_it_is_read_again(book: Book) -> None:
    bad = new_row(book, 1, 10)
    damage(book, bad, "log = x'00'")
    assert queries.row(book, bad) is None
    places = queries.places(book, (CHAIN, CONTRACT), KIND, (1, 9), 9)
    assert places == (), "the proof of completeness must find it missing"
    ((again, _),) = take(book, arrival(1, 10)).new
    assert row_of(book, again).state is State.PENDING


def test_a_page_that_cannot_be_read_costs_its_rows_alone(path: Path) -> None:
    """The end of a long event stands on an overflow page, which was overwritten with zeros."""
    book = opened(path)
    book.execute("PRAGMA wal_autocheckpoint = 0")
    bad, good = new_row(book, 1, 10, content="x" * 9000), new_row(book, 2, 11)
    book.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    book.close()
    damage_page(path)
    book = opened(path)
    book.begin()
    assert [row.rid for row in queries.due_of_kinds(book, [KIND], NOW, 5).rows] == [good]
    assert "damaged where it stands" in book.damaged[bad]
    with pytest.raises(sqlite3.DatabaseError):  # SQLite gives up a transaction in which it met such a page
        book.commit()
    book.begin()
    assert [row.rid for row in queries.due_of_kinds(book, [KIND], NOW, 5).rows] == [good]
    assert walk(book, good, WAYS[State.FINALIZED])
    book.commit()
    book.close()


def damage_page(path: Path) -> None:
    """Overwrite the first page that holds nothing but the event's long text."""
    data = bytearray(path.read_bytes())
    page = next(at for at in range(0, len(data), 4096) if data[at + 8 : at + 4096] == b"x" * 4088)
    data[page : page + 4096] = bytes(4096)
    path.write_bytes(data)
