"""One damaged row costs that row: it is set aside, and the rest of the journal goes on."""

from __future__ import annotations

import pytest

from kmsconn.journal import queries
from kmsconn.journal.database import Database
from kmsconn.journal.rows import find_odd_rows
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from tests.unit.journal.samples import CHAIN, CONTRACT, KIND, WAYS, arrival, new_row, row_of, take, walk

NOW = 1000.0
DAMAGES = [
    ("log", b"\0"),
    ("log", b"\x93\xc4\x14"),
    ("log", b"\x93\xc4"),
    ("id", b"\x01"),
    ("id", bytes(40)),
    ("contract", b"\xdc"),
    ("log", b"text"),
]


def damage(db: Database, rid: int, column: str = "log", value: object = b"\0") -> None:
    db.execute(f"UPDATE request SET {column} = ? WHERE rid = ?", (value, rid))  # noqa: S608 - our own literals


@pytest.mark.parametrize(("column", "value"), DAMAGES)
def test_a_row_that_cannot_be_read_is_quarantined_and_the_others_are_due(
    db: Database, column: str, value: bytes
) -> None:
    bad, good = new_row(db, 1, 10), new_row(db, 2, 11)
    damage(db, bad, column, value)
    assert [row.rid for row in queries.due(db, [KIND], NOW, 5).rows] == [good]
    assert list(db.damaged) == [bad]
    stored = db.execute("SELECT state, on_chain, reason FROM request WHERE rid = ?", (bad,)).fetchone()
    assert stored[:2] == ("quarantined", 0)
    assert stored[2].startswith("damaged: ")


@pytest.mark.parametrize("state", [State.ANSWERED, State.SIGNED, State.INCLUDED])
def test_a_damaged_row_of_the_transaction_manager_is_set_aside(db: Database, state: State) -> None:
    bad, good = (walk(db, new_row(db, number, 10), WAYS[state]) for number in (1, 2))
    damage(db, bad)
    looks = {
        State.ANSWERED: lambda: queries.answered(db, CHAIN, NOW, 5).rows,
        State.SIGNED: lambda: queries.signed(db, CHAIN),
        State.INCLUDED: lambda: queries.included(db, CHAIN, 99, 5),
    }
    assert [row.rid for row in looks[state]()] == [good]
    assert [row.rid for row in looks[state]()] == [good]
    assert list(db.damaged) == [bad]


def test_the_first_in_order_is_passed_over_when_it_cannot_be_read(db: Database) -> None:
    kind = Kind.NEW_KMS_CONTEXT
    bad, good = (new_row(db, number, 10 + number, kind=kind) for number in (1, 2))
    damage(db, bad)
    assert [row.rid for row in queries.in_order(db, [kind], 9)] == [good]


@pytest.mark.parametrize(("column", "value"), [("state", "sfen"), ("kind", "public_decrzption")])
def test_a_row_that_no_look_would_find_is_set_aside_when_the_journal_is_opened(
    db: Database, column: str, value: str
) -> None:
    bad = new_row(db, 1, 10)
    damage(db, bad, column, value)
    assert queries.counts(db, NOW).states == {}
    find_odd_rows(db)
    assert list(db.damaged) == [bad]
    assert queries.counts(db, NOW).states == {(KIND, State.QUARANTINED): 1}


def test_the_event_of_a_damaged_row_is_taken_as_a_new_request_when_it_is_read_again(db: Database) -> None:
    bad = new_row(db, 1, 10)
    damage(db, bad)
    assert queries.row(db, bad) is None
    places = queries.places(db, CHAIN, CONTRACT, KIND, (1, 9), limit=9)
    assert places == (), "the proof of completeness must find it missing"
    ((again, _),) = take(db, arrival(1, 10)).new
    assert row_of(db, again).state is State.PENDING
