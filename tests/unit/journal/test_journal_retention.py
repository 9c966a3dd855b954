"""What leaves the journal, when, and what stays whatever its age."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import attrs
import pytest

from kmsconn.journal import moves, queries, retention
from kmsconn.journal.database import Database
from kmsconn.journal.queries import JournalPlace
from kmsconn.journal.retention import Position, RetentionStep
from kmsconn.model.life import CLOSED, OPEN, State
from tests.unit.journal.samples import (
    CHAIN,
    CONTRACT,
    KIND,
    WAYS,
    arrival,
    new_row,
    opened,
    rewind,
    row_of,
    take,
    walk,
    wall,
)

ENDED = wall()
PLAN = RetentionStep(clear_before=ENDED + 10, delete_before=ENDED + 10, final={CHAIN: 100})
CLEARING = attrs.evolve(PLAN, delete_before=None)
DELETING = attrs.evolve(PLAN, clear_before=None)


class Done(NamedTuple):
    cleared: int
    deleted: int


def play(db: Database, plan: RetentionStep, most: int = 1000) -> Done:
    """Take steps until a round is over, and return how many rows more are cleared now, and how many less there are."""
    before = standing(db)
    position: Position | None = Position()
    while position is not None and most > 0:
        position, most = retention.step(db, plan, position), most - 1
    after = standing(db)
    return Done(after.cleared - before.cleared, before.deleted - after.deleted)


def standing(db: Database) -> Done:
    """Return how many rows are cleared, and how many there are."""
    return Done(*map(int, db.execute("SELECT coalesce(sum(cleared), 0), count(*) FROM request").fetchone()))


def rids(db: Database) -> list[int]:
    return [rid for (rid,) in db.execute("SELECT rid FROM request ORDER BY rid")]


@pytest.mark.parametrize("state", State)
def test_only_closed_rows_lose_their_long_values_or_go(db: Database, state: State) -> None:
    rid = walk(db, new_row(db), WAYS[state])
    assert play(db, CLEARING).cleared == (state in CLOSED)
    assert play(db, DELETING).deleted == (state in CLOSED)
    assert rids(db) == [rid] * (state in OPEN)


@pytest.mark.parametrize("state", sorted(CLOSED))
def test_of_a_cleared_row_all_else_stays(db: Database, state: State) -> None:
    rid = walk(db, new_row(db), WAYS[state])
    before = row_of(db, rid)
    play(db, CLEARING)
    after = row_of(db, rid)
    assert (after.answer, after.reply.raw) == (None, None)
    log = before.event.log if state in {State.EXPIRED, State.REJECTED, State.QUARANTINED} else after.event.log
    assert after == attrs.evolve(
        before,
        answer=None,
        event=attrs.evolve(before.event, log=log),
        reply=attrs.evolve(before.reply, raw=None),
    )
    assert (after.event.log.topics, after.event.log.address, after.event.log.block_number) == (
        (log.topics, before.event.log.address, before.event.log.block_number)
    )


def test_a_row_is_cleared_once(db: Database) -> None:
    walk(db, new_row(db), WAYS[State.FINALIZED])
    assert [play(db, CLEARING).cleared for _ in range(2)] == [1, 0]


@pytest.mark.parametrize("plan", [CLEARING, DELETING])
@pytest.mark.parametrize(
    "change",
    [
        {"clear_before": ENDED - 1, "delete_before": ENDED - 1},
        {"clear_before": None, "delete_before": None},
        {"final": {CHAIN: 9}},
        {"final": {CHAIN: 15}},
        {"final": {CHAIN + 1: 100}},
        {"final": {}},
    ],
)
def test_what_is_young_or_not_final_stays(db: Database, plan: RetentionStep, change: dict[str, Any]) -> None:
    """The request stands in block 10, its reply in block 20."""
    walk(db, new_row(db, 1, 10), WAYS[State.FINALIZED])
    changed = {name: value for name, value in change.items() if getattr(plan, name) is not None}
    done = play(db, attrs.evolve(plan, **changed))
    assert (done.cleared, done.deleted) == (0, 0)


def test_numbered_rows_go_only_below_the_low_water_mark(db: Database) -> None:
    made = [walk(db, new_row(db, number, 10), WAYS[State.FINALIZED]) for number in (1, 2, 3)]
    plan = attrs.evolve(PLAN, numbered=frozenset({KIND}))
    assert play(db, plan).deleted == 0
    retention.raise_low_water(db, CHAIN, CONTRACT, KIND, JournalPlace(2, 10))
    assert play(db, plan).deleted == 2
    assert rids(db) == made[2:]


def test_the_low_water_mark_only_rises(db: Database) -> None:
    assert retention.low_water(db, CHAIN, CONTRACT, KIND) is None
    for number in (256, 3):
        retention.raise_low_water(db, CHAIN, CONTRACT, KIND, JournalPlace(number, number))
    assert retention.low_water(db, CHAIN, CONTRACT, KIND) == JournalPlace(256, 256)


def test_a_fork_below_the_mark_takes_it_back_to_what_stands_below(db: Database) -> None:
    for number in (1, 2, 3):
        new_row(db, number, 10 * number)
    retention.raise_low_water(db, CHAIN, CONTRACT, KIND, JournalPlace(3, 30))
    rewind(db, 30)
    assert retention.low_water(db, CHAIN, CONTRACT, KIND) == JournalPlace(3, 30)
    rewind(db, 25)
    assert retention.low_water(db, CHAIN, CONTRACT, KIND) == JournalPlace(2, 20)
    rewind(db, 5)
    assert retention.low_water(db, CHAIN, CONTRACT, KIND) is None


def test_a_damaged_row_lowers_the_mark_to_its_id(db: Database) -> None:
    bad = new_row(db, 5, 10)
    retention.raise_low_water(db, CHAIN, CONTRACT, KIND, JournalPlace(9, 30))
    db.execute("UPDATE request SET log = ? WHERE rid = ?", (b"\0", bad))
    assert queries.row(db, bad) is None
    assert retention.low_water(db, CHAIN, CONTRACT, KIND) == JournalPlace(4, 10)


@pytest.mark.parametrize(
    ("state", "goes"), [(State.PENDING, True), (State.ANSWERED, True), (State.SIGNED, False)]
)
def test_what_left_the_chain_goes_by_its_age(db: Database, state: State, goes: bool) -> None:
    """Its record was made at 1000. What is signed may still be included."""
    walk(db, new_row(db, 1, 10), WAYS[state])
    take(db, blocks=(10, 10))
    assert play(db, attrs.evolve(DELETING, delete_before=999.0)).deleted == 0
    assert play(db, attrs.evolve(DELETING, delete_before=1001.0)).deleted == goes


def test_deleted_rows_stay_counted(db: Database) -> None:
    for number in range(5):
        walk(db, new_row(db, number, 10), WAYS[State.FINALIZED])
    walk(db, new_row(db, 9, 200), WAYS[State.FINALIZED])
    play(db, PLAN)
    counts = queries.counts(db, ENDED)
    assert (counts.states, counts.deleted) == ({(KIND, State.FINALIZED): 1}, {(KIND, State.FINALIZED): 5})


def test_a_step_looks_at_few_rows_and_a_round_at_all(db: Database) -> None:
    many = 3 * retention.ROWS
    for number in range(many):
        walk(db, new_row(db, number, 10), WAYS[State.FINALIZED])
    assert play(db, CLEARING, 1).cleared == retention.ROWS
    assert play(db, PLAN).deleted == many


def test_rows_that_must_stay_hide_none_behind_them(db: Database) -> None:
    for number in range(2 * retention.ROWS):
        walk(db, new_row(db, number, 200), WAYS[State.FINALIZED])
    late = walk(db, new_row(db, 999, 10), WAYS[State.FINALIZED])
    assert play(db, DELETING).deleted == 1
    assert late not in rids(db)


def test_a_cleared_request_that_comes_again_elsewhere_has_its_event_again(db: Database) -> None:
    """A reorganisation deeper than anybody expected."""
    rid = walk(db, new_row(db, 1, 10), WAYS[State.FINALIZED])
    play(db, CLEARING)
    take(db, arrival(1, 12))
    assert row_of(db, rid).event.log == arrival(1, 12).log
    assert play(db, CLEARING).cleared == 1


def test_a_cleared_row_does_not_begin_again(db: Database) -> None:
    rid = walk(db, new_row(db), WAYS[State.FINALIZED])
    play(db, CLEARING)
    db.execute("UPDATE request SET state = 'included' WHERE rid = ?", (rid,))
    assert not moves.move(db, "restart", rid, next_attempt=1.0, reason="")


@pytest.mark.sqlite
def test_the_file_is_shortened_where_much_of_it_is_free(path: Path) -> None:
    db = opened(path)
    db.begin()
    for number in range(600):
        walk(db, new_row(db, number, 10, content="x" * 9000), WAYS[State.FINALIZED])
    db.commit()
    assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    db.begin()
    for _ in range(60):
        play(db, PLAN)
    db.commit()
    db.close()
    assert path.stat().st_size < 2 << 20


def test_the_proof_costs_little_after_the_mark(db: Database) -> None:
    """Ids up to the mark are not asked for, whatever rows are left of them."""
    for number in range(1, 50):
        walk(db, new_row(db, number, 10), WAYS[State.FINALIZED])
    retention.raise_low_water(db, CHAIN, CONTRACT, KIND, JournalPlace(40, 10))
    play(db, attrs.evolve(PLAN, numbered=frozenset({KIND})))
    mark = retention.low_water(db, CHAIN, CONTRACT, KIND)
    assert mark is not None
    left = queries.places(db, CHAIN, CONTRACT, KIND, (mark.id + 1, 99), limit=99)
    assert [place.id for place in left] == list(range(41, 50))
