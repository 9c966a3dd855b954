"""The outbox of the audit log: every transition that is committed, and no other."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kmsconn.journal import inspecting, outbox
from kmsconn.journal.database import Database
from kmsconn.journal.outbox import Head
from kmsconn.model.life import TRANSITIONS
from tests.unit.journal.samples import CHAIN, CONTRACT, WAYS, move, new_row, opened, walk


def seen(db: Database) -> list[tuple[str | None, str]]:
    return [(one.old_state, one.state) for one in outbox.pending(db, 100)]


@pytest.mark.parametrize("transition", sorted(TRANSITIONS))
def test_every_transition_is_in_the_outbox(db: Database, transition: str) -> None:
    """The first state that it may leave and that a test can reach."""
    sources, target = TRANSITIONS[transition]
    source = min(sources & WAYS.keys())
    rid = walk(db, new_row(db), WAYS[source])
    outbox.capture(db)
    if move(db, transition, rid):
        assert seen(db) == [(source, target)]
    else:
        assert seen(db) == []


def test_a_new_request_is_in_the_outbox_with_its_place(db: Database) -> None:
    outbox.capture(db)
    rid = new_row(db, 7, 10)
    [one] = outbox.pending(db, 100)
    assert (one.old_state, one.state, one.subject.rid, one.subject.block) == (None, "pending", rid, 10)
    asked = one.subject
    assert (int.from_bytes(asked.id), asked.chain_id, asked.contract) == (7, CHAIN, CONTRACT)


def test_the_time_is_that_of_the_clock(db: Database) -> None:
    outbox.capture(db)
    new_row(db)
    assert abs(outbox.pending(db, 1)[0].at - time.time()) < 60


def test_what_is_rolled_back_is_not_there(db: Database) -> None:
    outbox.capture(db)
    db.begin()
    walk(db, new_row(db), ["answer"])
    db.roll_back()
    assert seen(db) == []


def test_an_operator_s_retry_is_there(db: Database) -> None:
    rid = walk(db, new_row(db), ["reject"])
    outbox.capture(db)
    inspecting.retry(db, rid, 1000.0, 2000.0)
    assert seen(db) == [("rejected", "pending")]


def test_another_program_that_opens_the_journal_fills_the_outbox_too(path: Path, db: Database) -> None:
    rid = new_row(db)
    outbox.capture(db)
    db.close()
    other = opened(path)
    walk(other, rid, ["reject"])
    assert seen(other) == [("pending", "rejected")]
    other.close()


def test_nothing_is_captured_once_the_audit_log_is_off(db: Database) -> None:
    outbox.capture(db)
    rid = new_row(db)
    outbox.stop_capturing(db)
    walk(db, rid, ["answer"])
    assert len(outbox.pending(db, 100)) == 1


def test_what_is_written_leaves_the_outbox_and_numbers_are_not_used_again(db: Database) -> None:
    outbox.capture(db)
    rid = new_row(db)
    outbox.written(db, Head(1, "ab"))
    outbox.capture(db)
    walk(db, rid, ["answer"])
    assert [one.seq for one in outbox.pending(db, 100)] == [2]
    assert outbox.read_head(db) == Head(1, "ab")
    walk(db, rid, ["sign"])
    outbox.written(db, Head(2, "cd"))
    assert [one.seq for one in outbox.pending(db, 100)] == [3]


def test_before_the_first_line_there_is_no_head(db: Database) -> None:
    assert outbox.read_head(db) is None
