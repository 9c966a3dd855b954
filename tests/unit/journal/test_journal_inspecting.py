"""What an operator finds, and what begins again."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.journal import inspecting, moves, queries, retention
from kmsconn.journal.database import Database
from kmsconn.journal.inspecting import RETRIED, SLICE, InspectionError, Wanted
from kmsconn.journal.retention import Position, RetentionStep
from kmsconn.journal.rows import RowProgress, RowTimes
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from tests.unit.journal.samples import CHAIN, KIND, WAYS, arrival, new_row, row_of, take, walk, wall

ALL = Wanted()


def found(db: Database, wanted: Wanted = ALL, before: int | None = None, limit: int = 99) -> list[int]:
    return [row.rid for row in inspecting.find(db, wanted, before, limit)[0]]


def test_the_newest_come_first_and_the_look_goes_on_below(db: Database) -> None:
    made = [new_row(db, number) for number in range(5)]
    first, rest = inspecting.find(db, ALL, None, 2)
    assert ([row.rid for row in first], rest) == (made[:2:-1], made[3])
    assert found(db, before=rest) == made[2::-1]
    assert inspecting.find(db, ALL, None, 99)[1] is None


def test_an_empty_journal_has_none_and_a_row_that_is_not_there_says_so(db: Database) -> None:
    assert inspecting.find(db, ALL, None, 9) == ((), None)
    with pytest.raises(InspectionError, match="no such row"):
        inspecting.retry(db, 99, 5000.0, 777.0)


def test_what_is_off_chain_or_without_its_event_is_left_and_says_so(db: Database) -> None:
    rid = walk(db, new_row(db, 1, 10), WAYS[State.REJECTED])
    take(db, blocks=(10, 10))
    with pytest.raises(InspectionError, match="off chain"):
        inspecting.retry(db, rid, 5000.0, 777.0)
    take(db, arrival(1, 10), blocks=(10, 10))
    log = db.execute("SELECT log FROM request").fetchone()
    db.execute("UPDATE request SET log = ? WHERE rid = ?", (b"", rid))
    with pytest.raises(InspectionError, match="no longer in the journal"):
        inspecting.retry(db, rid, 5000.0, 777.0)
    db.execute("UPDATE request SET log = ? WHERE rid = ?", (*log, rid))
    inspecting.retry(db, rid, 5000.0, 777.0)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(kinds=frozenset({Kind.CRSGEN})), ["crs"]),
        (Wanted(states=frozenset({State.REJECTED})), ["denied", "crs"]),
        (Wanted(states=frozenset({State.EXPIRED, State.REJECTED})), ["late", "denied", "crs"]),
        (Wanted(cause="ACL"), ["denied"]),
        (Wanted(cause="acl", kinds=frozenset({Kind.CRSGEN})), []),
        (Wanted(cause="too 100%_late"), ["late"]),
        (Wanted(cause="%"), ["late"]),
    ],
)
def test_requests_are_found_by_kind_state_and_cause(
    db: Database, wanted: Wanted, expected: list[str]
) -> None:
    names: dict[Any, Any] = {}
    for name, kind, transition, reason in (
        ("crs", Kind.CRSGEN, "reject", "the Core said INTERNAL"),
        ("denied", KIND, "reject", "the acl says no"),
        ("late", KIND, "expire", "too 100%_late"),
    ):
        rid = new_row(db, len(names) + 1, kind=kind)
        moves.move(db, transition, rid, reason=reason)
        names[rid] = name
    new_row(db, 9)
    assert [names[rid] for rid in found(db, wanted)] == expected


def test_a_look_walks_over_few_rows_and_says_where_it_stopped(db: Database) -> None:
    old, new = new_row(db, 1), new_row(db, 2)
    for rid in (new, old):
        db.execute("UPDATE request SET rid = ? WHERE rid = ?", (rid * 6 * SLICE - 3 * SLICE, rid))
    old, new = 3 * SLICE, 9 * SLICE
    looks, before = [], None
    while True:
        rows, before = inspecting.find(db, ALL, before, 9)
        looks.append([row.rid for row in rows])
        if before is None:
            break
    assert [rids for rids in looks if rids] == [[new], [old]]
    assert len(looks) == pytest.approx(9, abs=2)


def test_all_rows_of_an_id_are_found(db: Database) -> None:
    first = new_row(db, 7, 10, content="A")
    second = new_row(db, 7, 10, content="B")
    other = new_row(db, 7, 11, kind=Kind.CRSGEN, content="C")
    new_row(db, 8)
    assert [row.rid for row in inspecting.of_id(db, 7)] == [first, second, other]
    assert inspecting.of_id(db, 99) == ()


@pytest.mark.parametrize("state", sorted(RETRIED))
def test_what_failed_begins_again_from_the_start(db: Database, state: State) -> None:
    rid = walk(db, new_row(db), WAYS[state])
    db.execute("UPDATE request SET submitted = 1 WHERE rid = ?", (rid,))
    before = row_of(db, rid)
    inspecting.retry(db, rid, 5000.0, 777.0)
    after = row_of(db, rid)
    assert after == attrs.evolve(
        before,
        state=State.PENDING,
        progress=RowProgress(
            5000.0,
            777.0,
            submitted=False,
            deferred=0,
            reason=f"retried by an operator; it had ended as {state}: because",
        ),
        times=RowTimes(5000.0, before.times.answered),
    )
    assert [row.rid for row in queries.due(db, [KIND], 5000.0, 9).rows] == [rid]
    with pytest.raises(InspectionError, match="pending already"):
        inspecting.retry(db, rid, 5001.0, 778.0)


def test_a_reply_that_was_rejected_is_asked_for_anew(db: Database) -> None:
    rid = walk(db, new_row(db), ["answer", "sign", "reject"])
    inspecting.retry(db, rid, 5000.0, 777.0)
    after = row_of(db, rid)
    assert (after.answer, after.reply.nonce, after.reply.raw, after.reply.hash, after.times.answered) == (
        None,
    ) * 5


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (State.PENDING, "pending already"),
        (State.ANSWERED, "answered it already"),
        (State.SIGNED, "cannot be taken back"),
        (State.INCLUDED, "included already"),
        (State.FINALIZED, "final already"),
        (State.DONE, "finished it already"),
        (State.ABORTED, "asked for its abort"),
    ],
)
def test_what_did_not_fail_is_left_and_says_why(db: Database, state: State, why: str) -> None:
    rid = walk(db, new_row(db), WAYS[state])
    before = row_of(db, rid)
    with pytest.raises(InspectionError, match=why):
        inspecting.retry(db, rid, 5000.0, 777.0)
    assert row_of(db, rid) == before


@pytest.mark.parametrize("state", sorted(RETRIED))
def test_what_retention_has_cleared_can_still_begin_again(db: Database, state: State) -> None:
    rid = walk(db, new_row(db), WAYS[state])
    plan = RetentionStep(clear_before=wall() + 1, delete_before=None, final={CHAIN: 99})
    assert retention.step(db, plan, Position()) is not None
    assert db.execute("SELECT cleared FROM request").fetchone() == (1,)
    inspecting.retry(db, rid, 5000.0, 777.0)
    assert row_of(db, rid).event.log == arrival(1, 10).log


def test_a_damaged_row_is_listed_and_says_what_it_is(db: Database) -> None:
    rid = new_row(db)
    db.execute("UPDATE request SET log = ? WHERE rid = ?", (b"\0", rid))
    assert queries.row(db, rid) is None
    db.damaged.clear()  # as in another process
    [row] = inspecting.find(db, Wanted(states=frozenset({State.QUARANTINED})), None, 9)[0]
    assert (row.rid, row.progress.reason[:9], db.damaged) == (rid, "damaged: ", {})


def test_counts_follow_a_retry(db: Database) -> None:
    rid = walk(db, new_row(db), WAYS[State.REJECTED])
    inspecting.retry(db, rid, 5000.0, 777.0)
    counts: Any = queries.counts(db, 5010.0)
    assert (counts.states, counts.oldest) == ({(KIND, State.PENDING): 1}, {KIND: 10.0})
