"""What leaves the journal, when, and what stays whatever its age."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from kmsconn.journal import moves, queries, retention
from kmsconn.journal.book import Book
from kmsconn.journal.port import Place, Position, Retained, Retention
from kmsconn.journal.rewinding import rewind
from kmsconn.model.life import CLOSED, OPEN, State
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
    wall,
)

ENDED = wall()
PLAN = Retention(clear_before=ENDED + 10, delete_before=ENDED + 10, final={CHAIN: 100})
CLEARING = attrs.evolve(PLAN, delete_before=None)
DELETING = attrs.evolve(PLAN, clear_before=None)


def play(book: Book, plan: Retention) -> Retained:
    """Take steps until a round is over, and return their sum."""
    position: Position | None = Position()
    cleared = deleted = pages = 0
    while position is not None:
        done = retention.step(book, plan, position)
        position = done.position
        cleared, deleted, pages = cleared + done.cleared, deleted + done.deleted, pages + done.pages
    return Retained(None, cleared, deleted, pages)


def rids(book: Book) -> list[int]:
    return [rid for (rid,) in book.execute("SELECT rid FROM request ORDER BY rid")]


@pytest.mark.parametrize("state", State)
def test_only_closed_rows_lose_their_long_values_or_go(book: Book, state: State) -> None:
    rid = walk(book, new_row(book), WAYS[state])
    assert play(book, CLEARING).cleared == (state in CLOSED)
    assert play(book, DELETING).deleted == (state in CLOSED)
    assert rids(book) == [rid] * (state in OPEN)


@pytest.mark.parametrize("state", sorted(CLOSED))
def test_of_a_cleared_row_all_else_stays(book: Book, state: State) -> None:
    rid = walk(book, new_row(book), WAYS[state])
    before = row_of(book, rid)
    play(book, CLEARING)
    after = row_of(book, rid)
    assert (after.answer, after.raw) == (None, None)
    log = before.log if state in {State.EXPIRED, State.REJECTED, State.QUARANTINED} else after.log
    assert after == attrs.evolve(before, answer=None, raw=None, log=log)
    assert (after.log.topics, after.log.address, after.log.block_number) == (
        (log.topics, before.log.address, before.log.block_number)
    )


def test_a_row_is_cleared_once(book: Book) -> None:
    walk(book, new_row(book), WAYS[State.FINALIZED])
    assert [play(book, CLEARING).cleared for _ in range(2)] == [1, 0]


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
def test_what_is_young_or_not_final_stays(book: Book, plan: Retention, change: dict[str, Any]) -> None:
    """The request stands in block 10, its reply in block 20."""
    walk(book, new_row(book, 1, 10), WAYS[State.FINALIZED])
    changed = {name: value for name, value in change.items() if getattr(plan, name) is not None}
    done = play(book, attrs.evolve(plan, **changed))
    assert (done.cleared, done.deleted) == (0, 0)


def test_a_row_that_was_closed_by_an_earlier_version_ended_with_its_answer(book: Book) -> None:
    rid = walk(book, new_row(book), WAYS[State.FINALIZED])
    book.execute("UPDATE request SET closed_at = NULL, answered_at = ? WHERE rid = ?", (ENDED - 500, rid))
    assert play(book, attrs.evolve(DELETING, delete_before=ENDED - 501)).deleted == 0
    assert play(book, attrs.evolve(DELETING, delete_before=ENDED - 499)).deleted == 1


def test_numbered_rows_go_only_below_the_low_water_mark(book: Book) -> None:
    made = [walk(book, new_row(book, number, 10), WAYS[State.FINALIZED]) for number in (1, 2, 3)]
    plan = attrs.evolve(PLAN, numbered=frozenset({KIND}))
    assert play(book, plan).deleted == 0
    retention.raise_low_water(book, CHAIN, CONTRACT, KIND, Place(2, 10))
    assert play(book, plan).deleted == 2
    assert rids(book) == made[2:]


def test_the_low_water_mark_only_rises(book: Book) -> None:
    assert retention.low_water(book, CHAIN, CONTRACT, KIND) is None
    for number in (256, 3):
        retention.raise_low_water(book, CHAIN, CONTRACT, KIND, Place(number, number))
    assert retention.low_water(book, CHAIN, CONTRACT, KIND) == Place(256, 256)


def test_a_fork_below_the_mark_takes_it_back_to_what_stands_below(book: Book) -> None:
    for number in (1, 2, 3):
        new_row(book, number, 10 * number)
    retention.raise_low_water(book, CHAIN, CONTRACT, KIND, Place(3, 30))
    rewind(book, CHAIN, CONTRACT, 30, 40)
    assert retention.low_water(book, CHAIN, CONTRACT, KIND) == Place(3, 30)
    rewind(book, CHAIN, CONTRACT, 25, 40)
    assert retention.low_water(book, CHAIN, CONTRACT, KIND) == Place(2, 20)
    rewind(book, CHAIN, CONTRACT, 5, 40)
    assert retention.low_water(book, CHAIN, CONTRACT, KIND) is None


def test_a_damaged_row_lowers_the_mark_to_its_id(book: Book) -> None:
    bad = new_row(book, 5, 10)
    retention.raise_low_water(book, CHAIN, CONTRACT, KIND, Place(9, 30))
    book.execute("UPDATE request SET log = x'00' WHERE rid = ?", (bad,))
    assert queries.row(book, bad) is None
    assert retention.low_water(book, CHAIN, CONTRACT, KIND) == Place(4, 10)


@pytest.mark.parametrize(
    ("state", "goes"), [(State.PENDING, True), (State.ANSWERED, True), (State.SIGNED, False)]
)
def test_what_left_the_chain_goes_by_its_age(book: Book, state: State, goes: bool) -> None:
    """Its record was made at 1000. What is signed may still be included."""
    walk(book, new_row(book, 1, 10), WAYS[state])
    take(book, blocks=(10, 10))
    assert play(book, attrs.evolve(DELETING, delete_before=999.0)).deleted == 0
    assert play(book, attrs.evolve(DELETING, delete_before=1001.0)).deleted == goes


def test_deleted_rows_stay_counted(book: Book) -> None:
    for number in range(5):
        walk(book, new_row(book, number, 10), WAYS[State.FINALIZED])
    walk(book, new_row(book, 9, 200), WAYS[State.FINALIZED])
    play(book, PLAN)
    counts = queries.counts(book, ENDED)
    assert (counts.states, counts.deleted) == ({(KIND, State.FINALIZED): 1}, {(KIND, State.FINALIZED): 5})


def test_a_step_looks_at_few_rows_and_a_round_at_all(book: Book) -> None:
    many = 3 * retention.ROWS
    for number in range(many):
        walk(book, new_row(book, number, 10), WAYS[State.FINALIZED])
    assert retention.step(book, CLEARING, Position()).cleared == retention.ROWS
    assert play(book, PLAN).deleted == many


def test_rows_that_must_stay_hide_none_behind_them(book: Book) -> None:
    for number in range(2 * retention.ROWS):
        walk(book, new_row(book, number, 200), WAYS[State.FINALIZED])
    late = walk(book, new_row(book, 999, 10), WAYS[State.FINALIZED])
    assert play(book, DELETING).deleted == 1
    assert late not in rids(book)


def test_a_cleared_request_that_comes_again_elsewhere_has_its_event_again(book: Book) -> None:
    """A reorganisation deeper than anybody expected."""
    rid = walk(book, new_row(book, 1, 10), WAYS[State.FINALIZED])
    play(book, CLEARING)
    take(book, arrival(1, 12))
    assert row_of(book, rid).log == arrival(1, 12).log
    assert play(book, CLEARING).cleared == 1


def test_a_cleared_row_does_not_begin_again(book: Book) -> None:
    rid = walk(book, new_row(book), WAYS[State.FINALIZED])
    play(book, CLEARING)
    book.execute("UPDATE request SET state = 'included' WHERE rid = ?", (rid,))
    assert not moves.move(book, "restart", rid, next_attempt=1.0, reason="")


def test_the_file_is_shortened_where_much_of_it_is_free(path: Path) -> None:
    book = opened(path)
    book.begin()
    for number in range(600):
        walk(book, new_row(book, number, 10, content="x" * 9000), WAYS[State.FINALIZED])
    book.commit()
    assert book.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    book.begin()
    given = play(book, PLAN).pages
    while more := retention.step(book, PLAN, Position()).pages:
        given += more
    book.commit()
    book.close()
    assert given > 1000
    assert path.stat().st_size < 2 << 20


def test_the_proof_costs_little_after_the_mark(book: Book) -> None:
    """Ids up to the mark are not asked for, whatever rows are left of them."""
    for number in range(1, 50):
        walk(book, new_row(book, number, 10), WAYS[State.FINALIZED])
    retention.raise_low_water(book, CHAIN, CONTRACT, KIND, Place(40, 10))
    play(book, attrs.evolve(PLAN, numbered=frozenset({KIND})))
    mark = retention.low_water(book, CHAIN, CONTRACT, KIND)
    assert mark is not None
    left = queries.places(book, (CHAIN, CONTRACT), KIND, (mark.id + 1, 99), 99)
    assert [place.id for place in left] == list(range(41, 50))
