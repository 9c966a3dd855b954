"""What an operation chose for a request is kept with it, and the first choice holds."""

from __future__ import annotations

from kmsconn.journal import moves, queries
from kmsconn.journal.database import Database
from kmsconn.model.requests import Kind
from tests.unit.journal.samples import CHAIN, CONTRACT, KIND, arrival, move, new_row, row_of, take


def choices(db: Database, kind: Kind = KIND, identifier: int = 1) -> list[str]:
    return [row.progress.choice for row in queries.of_request(db, CHAIN, CONTRACT, kind, identifier)]


def test_a_new_request_has_no_choice(db: Database) -> None:
    new_row(db)
    assert choices(db) == [""]


def test_the_first_choice_holds(db: Database) -> None:
    rid = new_row(db)
    assert [moves.keep_choice(db, rid, one) for one in ("compressed", "plain")] == [
        "compressed",
        "compressed",
    ]
    assert row_of(db, rid).progress.choice == "compressed"


def test_a_choice_outlives_moves_of_its_row(db: Database) -> None:
    rid = new_row(db)
    moves.keep_choice(db, rid, "plain")
    assert move(db, "answer", rid)
    assert choices(db) == ["plain"]


def test_a_choice_is_found_by_the_request_that_is_on_chain(db: Database) -> None:
    """Other content took the id after a reorganisation, and nothing was chosen for it yet."""
    moves.keep_choice(db, new_row(db), "plain")
    take(db, arrival(1, 11, "B"))
    assert choices(db) == [""]


def test_a_choice_of_another_kind_is_not_taken(db: Database) -> None:
    moves.keep_choice(db, new_row(db), "plain")
    assert choices(db, Kind.KEYGEN) == choices(db, KIND, 2) == []
