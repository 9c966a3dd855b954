"""The numbers of rows are those that a count would find, whatever a transaction does, and however it ends."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from kmsconn.journal import moves, queries
from kmsconn.journal.database import Database
from kmsconn.model.life import State
from tests.unit.journal.samples import KIND, WAYS, new_row, opened, raw_connection, walk

pytestmark = pytest.mark.sqlite

COUNTED = "SELECT kind, state, on_chain, count(*), sum(deferred > 0) FROM request GROUP BY kind, state, on_chain ORDER BY 1, 2, 3"
TOLD = "SELECT kind, state, on_chain, rows, deferred FROM tally WHERE rows <> 0 ORDER BY 1, 2, 3"


def agree(path: Path) -> bool:
    """Say whether a file's numbers are those of its rows, as another process sees them."""
    file = raw_connection(path)
    try:
        return bool(file.execute(COUNTED).fetchall() == file.execute(TOLD).fetchall())
    finally:
        file.close()


@pytest.fixture
def full(db: Database) -> Database:
    """A journal with a row in each state, and one that waits."""
    db.begin()
    for number, (_, steps) in enumerate(WAYS.items(), 1):
        walk(db, new_row(db, number), steps)
    moves.defer(db, new_row(db, 50), 9.5, "denied")
    db.commit()
    return db


def test_what_is_committed_is_counted(full: Database, path: Path) -> None:
    assert agree(path)
    full.begin()
    full.execute("DELETE FROM request WHERE state IN ('finalized', 'pending')")
    full.execute("UPDATE request SET on_chain = 0 WHERE state = 'signed'")
    full.commit()
    assert agree(path)
    assert queries.counts(full, 0.0).deleted[KIND, State.FINALIZED] == 1


def test_what_a_group_has_changed_is_counted_before_its_end(full: Database) -> None:
    before = queries.counts(full, 0.0).states[KIND, State.PENDING]
    full.begin()
    new_row(full, 70)
    assert queries.counts(full, 0.0).states[KIND, State.PENDING] == before + 1
    full.roll_back()
    assert queries.counts(full, 0.0).states[KIND, State.PENDING] == before


@pytest.mark.parametrize("counted_before", [False, True])
def test_what_a_savepoint_undoes_is_not_counted(full: Database, path: Path, counted_before: bool) -> None:
    full.begin()
    new_row(full, 70)
    with suppress(ValueError), full.savepoint():
        new_row(full, 71)
        if counted_before:
            queries.counts(full, 0.0)
        raise ValueError
    full.commit()
    assert agree(path)


def test_what_is_rolled_back_is_not_counted(full: Database, path: Path) -> None:
    full.begin()
    new_row(full, 70)
    full.roll_back()
    full.begin()
    new_row(full, 71)
    full.commit()
    assert agree(path)


def test_the_numbers_go_on_after_a_start(full: Database, path: Path) -> None:
    full.close()
    db = opened(path)
    db.begin()
    new_row(db, 70)
    db.commit()
    db.close()
    assert agree(path)
