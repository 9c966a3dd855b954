"""A journal is copied whole or not at all: every table, every state, and what the database remembers beside the rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest

from kmsconn.chain.fork import Checkpoint
from kmsconn.errors import StartRefused
from kmsconn.journal import audit, inspecting, moves, queries, retention
from kmsconn.journal.audit import End
from kmsconn.journal.copying import BATCH, CopyFailed, batches, copy_journal
from kmsconn.journal.database import Database
from kmsconn.journal.inspecting import PausedKind
from kmsconn.journal.journal import driver_of
from kmsconn.journal.queries import JournalPlace, Reread
from kmsconn.journal.retention import note_doubt, note_reread
from kmsconn.journal.schema import TABLES
from kmsconn.model.life import OPEN, State
from kmsconn.model.requests import Kind
from tests.unit.journal.samples import (
    BINDING,
    CHAIN,
    CONTRACT,
    KIND,
    WAYS,
    Place,
    arrival,
    bytes32,
    dump,
    new_row,
    opened,
    row_of,
    take,
    walk,
    wall,
)


@pytest.fixture
def full(source: Place) -> Iterator[Database]:
    """Open the source with a row in every state, and something in every table."""
    db = opened(source)
    db.begin()
    for number, (_, steps) in enumerate(WAYS.items(), 1):
        walk(db, new_row(db, number, 10 + number), steps)
    for kind in Kind:
        new_row(db, 100, 200, content=kind.value, kind=kind)
    moves.defer(db, 1, 9.5, "Denied: ünïcödé 🎈")
    gone = new_row(db, 50, 60)
    take(
        db,
        arrival(51, 70),
        blocks=(60, 80),
        head=Checkpoint(80, bytes32("80")),
        undecodable=[(arrival(1, 75).log, "no such event")],
    )
    note_doubt(db, CHAIN, 5.0)
    assert not row_of(db, gone).on_chain
    retention.raise_low_water(db, CHAIN, CONTRACT, KIND, JournalPlace(7, 12))
    note_reread(db, CHAIN, CONTRACT, Reread(5, 6, 9))
    inspecting.pause(db, PausedKind(Kind.USER_DECRYPTION, 11.0, "a test"))
    audit.capture(db)
    walk(db, new_row(db, 60, 90), WAYS[State.FINALIZED])
    audit.written(db, End(line_hash="ab" * 32, seq=2))
    audit.capture(db, wanted=False)
    db.commit()
    yield db
    db.close()


def copy(source: Place, target: Place) -> dict[str, int]:
    """Copy, and return the numbers of rows."""
    return dict(copy_journal(driver_of(source, 1), driver_of(target, 1)))


def content(db: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows that are copied, by table."""
    return {
        table.name: [row for batch in batches(db.driver, table) for row in batch]
        for table in TABLES
        if table.name != "meta"
    }


@pytest.fixture
def copied(full: Database, source: Place, target: Place) -> Iterator[tuple[dict[str, Any], Database]]:
    """Copy; give what the source held, and the copy opened by its owner."""
    before = content(full)
    full.close()
    copy(source, target)
    db = opened(target)
    yield before, db
    db.close()


def test_every_row_of_every_table_is_copied_and_the_original_stays_as_it_is(
    copied: tuple[dict[str, Any], Database], source: Place
) -> None:
    before, db = copied
    assert content(db) == before
    assert all(before.values()), "the original has rows in every table"
    assert {state for (state,) in db.execute("SELECT DISTINCT state FROM request").fetchall()} == set(State)
    with closing(opened(source)) as original:
        assert content(original) == before


def test_the_copy_goes_on_counting(copied: tuple[dict[str, Any], Database]) -> None:
    _, db = copied
    before = queries.counts(db, wall()).states
    db.begin()
    walk(db, new_row(db, 70, 300), ("answer",))
    db.commit()
    after = queries.counts(db, wall()).states
    key = (KIND, State.ANSWERED)
    assert after[key] == before[key] + 1
    assert {one: number for one, number in after.items() if one != key} == {
        one: number for one, number in before.items() if one != key
    }


def test_the_owner_is_that_of_the_original(full: Database, source: Place, target: Place) -> None:
    full.close()
    copy(source, target)
    opened(target).close()
    with pytest.raises(StartRefused, match="belongs to another connector"):
        opened(target, attrs.evolve(BINDING, gateway_chain_id=5))


def test_numbers_of_rows_are_not_given_out_again(full: Database, source: Place, target: Place) -> None:
    """The audit log and an operator's notes name requests by them."""
    full.begin()
    last = new_row(full, 80, 400)
    full.execute("DELETE FROM request WHERE rid = ?", (last,))
    full.commit()
    full.close()
    copy(source, target)
    db = opened(target)
    db.begin()
    assert new_row(db, 81, 400) == last + 1
    db.commit()
    db.close()


def test_the_audit_log_goes_on_where_it_was(copied: tuple[dict[str, Any], Database]) -> None:
    _, db = copied
    assert audit.read_head(db) == End(line_hash="ab" * 32, seq=2)
    waiting = [transition["seq"] for transition in audit.pending(db, 99)]
    db.begin()
    audit.capture(db)
    new_row(db, 90, 500)
    db.commit()
    assert [transition["seq"] for transition in audit.pending(db, 99)] == [*waiting, max(waiting) + 1]


def test_more_rows_than_a_batch_are_copied(source: Place, target: Place) -> None:
    db = opened(source)
    db.begin()
    take(db, *(arrival(number, 10) for number in range(1, BATCH + 8)))
    db.commit()
    db.close()
    assert copy(source, target)["request"] == BATCH + 7


def test_zero_characters_are_replaced(full: Database, source: Place, target: Place) -> None:
    """PostgreSQL stores none."""
    full.begin()
    full.execute("UPDATE request SET reason = ? WHERE rid = 1", ("a\0b",))
    full.commit()
    full.close()
    copy(source, target)
    db = opened(target)
    assert row_of(db, 1).progress.reason == "a\N{REPLACEMENT CHARACTER}b"
    db.close()


@pytest.mark.parametrize("table", ["request", "cursor", "paused"])
def test_a_target_that_is_not_empty_is_refused_and_stays_as_it_is(
    full: Database, source: Place, target: Place, table: str
) -> None:
    full.close()
    there = opened(target)
    there.begin()
    if table == "paused":
        inspecting.pause(there, PausedKind(Kind.CRSGEN, 1.0, ""))
    else:
        new_row(there)
        if table == "cursor":
            there.execute("DELETE FROM request")
    there.commit()
    before = dump(there), queries.cursors(there), inspecting.paused_kinds(there)
    there.close()
    with pytest.raises(
        StartRefused, match=rf"is not empty: it has rows of the table {table}; name a journal"
    ):
        copy(source, target)
    there = opened(target)
    assert (dump(there), queries.cursors(there), inspecting.paused_kinds(there)) == before
    there.close()


@pytest.mark.sqlite
def test_a_journal_that_is_not_there_is_not_copied(source: Place, target: Path) -> None:
    with pytest.raises(StartRefused, match="No such file"):
        copy(source, target)
    assert not target.exists()


class Breaking:
    """A target that fails, or changes what it is told, at one statement."""

    def __init__(self, driver: Any, word: str, change: Any) -> None:
        self.driver, self.word, self.change = driver, word, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)

    def execute(self, statement: str, values: Any = ()) -> Any:
        if self.word in statement:
            statement, values = self.change(statement, values)
        return self.driver.execute(statement, values)


def lost(_statement: str, _values: Any) -> Any:
    """Replace a statement with one that no database knows."""
    return "SELECT nothing FROM nowhere", ()


@pytest.mark.parametrize("word", ["INSERT INTO request", "INSERT INTO quarantined_log", "INSERT INTO meta"])
def test_a_copy_that_fails_leaves_nothing_and_can_be_made_again(
    full: Database, source: Place, target: Place, word: str
) -> None:
    full.close()
    broken: Any = Breaking(driver_of(target, 1), word, lost)
    with pytest.raises(CopyFailed, match="the copy failed, and nothing was kept"):
        copy_journal(driver_of(source, 1), broken)
    assert copy(source, target)["request"] > 0


def altered(statement: str, values: Any) -> Any:
    """Change what is told of the last value of a row."""
    return statement, (*values[:-1], values[-1] * 2 if isinstance(values[-1], float) else "another")


@pytest.mark.parametrize("table", ["request", "quarantined_log", "paused"])
def test_a_copy_that_differs_is_not_kept(full: Database, source: Place, target: Place, table: str) -> None:
    full.close()
    broken: Any = Breaking(driver_of(target, 1), f"INSERT INTO {table} ", altered)
    with pytest.raises(CopyFailed, match=f"the copy of the table {table} differs"):
        copy_journal(driver_of(source, 1), broken)
    db = opened(target)
    assert dump(db) == []
    db.close()


@pytest.mark.parametrize("used", ["source", "target"])
@pytest.mark.sqlite
def test_a_journal_in_use_is_not_copied_and_no_target(
    full: Database, source: Place, target: Place, used: str
) -> None:
    if used == "target":
        full.close()
        full = opened(target)
    with closing(full), pytest.raises(StartRefused, match="in use"):
        copy(source, target)


def test_the_open_states_of_the_samples_are_those_of_the_model() -> None:
    """A state that is new has its way in the samples, and so its row in these tests."""
    assert OPEN < set(WAYS) == set(State)


@pytest.mark.sqlite
def test_the_tables_that_are_copied_are_all_of_a_file(full: Database) -> None:
    """A column that is new is copied too."""
    tables = [
        name
        for (name,) in full.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if not name.startswith("sqlite_")
    ]
    there = {
        (table, column)
        for table in tables
        for (column,) in full.execute("SELECT name FROM pragma_table_info(?)", (table,))
    }
    assert {(table.name, column) for table in TABLES for column in table.columns} == there
