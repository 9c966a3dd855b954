"""Requests over HTTP in the journal: one row for a content, found in work or ended, and begun again where that may help."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.ethereum.abi import Log
from kmsconn.journal import inspecting, moves, queries, recording, retention
from kmsconn.journal.database import Database
from kmsconn.journal.moves import NewRequest, TooManyPosts
from kmsconn.journal.retention import Position, RetentionStep
from kmsconn.journal.rows import Row
from kmsconn.model.life import RowCause, State
from kmsconn.model.requests import NO_BLOCK, Kind
from tests.unit.journal.samples import ANSWER, CHAIN, CONTRACT, arrival, keep, read_of, rewind, row_of, take

LOG = Log(CONTRACT, (b"\x01" * 32, (7).to_bytes(32)), b"body", NO_BLOCK, b"", b"", 0)
POST = NewRequest(CHAIN, CONTRACT, 7, Kind.HTTP_PUBLIC_DECRYPTION, b"\x0d" * 32, LOG, 4100.0, 1000.0)
LATER = attrs.evolve(POST, now=1500.0, deadline=4600.0)


def post(db: Database, what: NewRequest = POST) -> tuple[Row | None, bool]:
    return moves.take(db, what)


def rid_of(db: Database, what: NewRequest = POST) -> int:
    row = post(db, what)[0]
    assert row is not None
    return row.rid


def end(db: Database, transition: str, cause: RowCause = RowCause.NONE) -> int:
    rid = rid_of(db)
    assert moves.move(db, transition, rid, reason="because", cause=cause)
    return rid


def test_a_new_request_is_due_at_once(db: Database) -> None:
    taken, begins = post(db)
    assert begins
    assert taken is not None
    assert (taken.state, taken.id, taken.on_chain) == (State.PENDING, 7, True)
    assert (taken.times.recorded, taken.progress.deadline) == (1000.0, 4100.0)
    assert taken.event.log == LOG
    assert queries.due(db, [Kind.HTTP_PUBLIC_DECRYPTION], 1000.0, 10).rows == (taken,)


def test_a_delivered_answer_is_found_and_an_answer_is_delivered_once(db: Database) -> None:
    rid = rid_of(db)
    assert keep(db, rid, ANSWER, 1200.0, transition="deliver")
    assert not keep(db, rid, ANSWER, 1300.0, transition="deliver")
    taken, begins = post(db, LATER)
    assert not begins
    assert taken is not None
    assert (taken.state, taken.answer) == (State.DONE, ANSWER)
    assert taken.times.answered == 1200.0


@pytest.mark.parametrize("transition", [None, "skip", "reject", "expire", "quarantine"])
def test_what_is_in_work_or_ended_for_good_is_found_as_it_is(db: Database, transition: str | None) -> None:
    rid = rid_of(db)
    if transition == "skip":
        inspecting.skip(db, rid, "no")
    elif transition is not None:
        end(db, transition)
    taken, begins = post(db, LATER)
    assert not begins
    assert taken == row_of(db, rid)
    assert (taken.state is State.PENDING) == (transition is None)
    assert taken.times.recorded == 1000.0


@pytest.mark.parametrize("transition", ["reject", "expire", "quarantine"])
def test_what_ended_repeatably_begins_again_as_if_recorded_now(db: Database, transition: str) -> None:
    rid = end(db, transition, RowCause.REPEATABLE | RowCause.ACCESS_DENIED)
    db.execute("UPDATE request SET submitted = 1 WHERE rid = ?", (rid,))
    taken, begins = post(db, LATER)
    assert begins
    row = row_of(db, rid)
    assert taken == row
    assert (row.state, row.times.recorded, row.progress.deadline) == (State.PENDING, 1500.0, 4600.0)
    assert (row.progress.cause, row.progress.submitted, row.times.closed) == (RowCause.NONE, False, None)
    assert row.progress.next_attempt == 1500.0
    assert not post(db, LATER)[1], "once"


def test_an_operator_may_retry_it(db: Database) -> None:
    rid = end(db, "reject")
    inspecting.retry(db, rid, 1600.0, 4700.0)
    assert row_of(db, rid).state is State.PENDING


def test_an_answer_that_retention_cleared_is_asked_for_again(db: Database) -> None:
    rid = rid_of(db)
    keep(db, rid, ANSWER, 1200.0, transition="deliver")
    plan = RetentionStep(clear_before=3000.0, delete_before=None, final={CHAIN: 100})
    assert retention.step(db, plan, Position()) is not None
    assert db.execute("SELECT cleared FROM request").fetchone() == (1,)
    assert row_of(db, rid).answer is None
    taken, begins = post(db, LATER)
    assert begins
    assert taken is not None
    assert taken.event.log == LOG
    assert keep(db, rid, ANSWER, 1600.0, transition="deliver")
    assert post(db, LATER)[0] == row_of(db, rid)


def test_rows_that_are_old_are_deleted(db: Database) -> None:
    end(db, "reject")
    plan = RetentionStep(clear_before=None, delete_before=3000.0, final={CHAIN: 0}, numbered=frozenset())
    position: Position | None = Position()
    while position is not None:
        position = retention.step(db, plan, position)
    assert queries.counts(db, 0.0).states == {}


def test_no_more_than_so_many_are_in_work(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "MOST_PENDING", 2)
    posts = [attrs.evolve(POST, id=n, digest=bytes([n]) * 32) for n in range(1, 4)]
    assert [post(db, one)[1] for one in posts[:2]] == [True, True]
    with pytest.raises(TooManyPosts):
        post(db, posts[2])
    assert not post(db, posts[0])[1], "what is in work is found all the same"
    keep(db, rid_of(db, posts[0]), ANSWER, 1200.0, transition="deliver")
    assert post(db, posts[2])[1]


# --- what reads and reorganisations of the chain do: nothing


def dump(db: Database) -> list[Any]:
    return db.execute("SELECT * FROM request WHERE kind = 'http_public_decryption'").fetchall()


def test_a_read_of_the_contract_leaves_it_alone(db: Database) -> None:
    rid_of(db)
    before = dump(db)
    recording.record(db, read_of(arrival(1, 0), blocks=(0, 1000)))
    recording.record(db, read_of(blocks=(0, 1000)))
    assert dump(db) == before


def test_a_rewind_to_the_first_block_leaves_it_alone(db: Database) -> None:
    for ended in (False, True):
        rid = rid_of(db)
        if ended:
            keep(db, rid, ANSWER, 1200.0, transition="deliver")
        before = dump(db)
        take(db)
        rewind(db, 0)
        assert dump(db) == before


def test_an_id_of_the_chain_is_another_request(db: Database) -> None:
    """The contract may number what has the value of a hash."""
    take(db, arrival(7, 10))
    assert post(db)[1]
    assert len(queries.due(db, list(Kind), 1e9, 10).rows) == 2


def test_it_is_no_open_request_of_any_block_and_no_key_management_and_is_found_by_its_id(
    db: Database,
) -> None:
    rid = rid_of(db)
    assert queries.oldest_open_block(db, CHAIN) is None
    end(db, "reject")
    assert queries.endings(db, [Kind.HTTP_PUBLIC_DECRYPTION], 10) == {Kind.HTTP_PUBLIC_DECRYPTION: ()}
    take(db, arrival(1, 10))  # so that the contract is one that is read
    assert [row.rid for row in inspecting.of_id(db, 7)] == [rid]
