"""The outbox of the audit log: every transition that is committed, and no other."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kmsconn.journal import audit, inspecting
from kmsconn.journal.audit import End
from kmsconn.journal.database import Database
from kmsconn.model.life import TRANSITIONS
from tests.unit.journal.samples import CHAIN, CONTRACT, WAYS, move, new_row, opened, walk


def seen(db: Database) -> list[tuple[str | None, str]]:
    return [(one["from"], one["to"]) for one in audit.pending(db, 100)]


@pytest.mark.parametrize("transition", sorted(TRANSITIONS))
def test_every_transition_is_in_the_outbox(db: Database, transition: str) -> None:
    """The first state that it may leave and that a test can reach."""
    sources, target = TRANSITIONS[transition]
    source = min(sources & WAYS.keys())
    rid = walk(db, new_row(db), WAYS[source])
    audit.capture(db)
    if move(db, transition, rid):
        assert seen(db) == [(source, target)]
    else:
        assert seen(db) == []


def test_a_new_request_is_in_the_outbox_with_its_place(db: Database) -> None:
    audit.capture(db)
    rid = new_row(db, 7, 10)
    [one] = audit.pending(db, 100)
    assert (one["from"], one["to"], one["row"], one["block"]) == (None, "pending", rid, 10)
    assert (int.from_bytes(one["id"]), one["chain"], one["contract"]) == (7, CHAIN, CONTRACT)


def test_the_time_is_that_of_the_clock(db: Database) -> None:
    audit.capture(db)
    new_row(db)
    assert abs(audit.pending(db, 1)[0]["at"] - time.time()) < 60


def test_what_is_rolled_back_is_not_there(db: Database) -> None:
    audit.capture(db)
    db.begin()
    walk(db, new_row(db), ["answer"])
    db.roll_back()
    assert seen(db) == []


def test_an_operator_s_retry_is_there(db: Database) -> None:
    rid = walk(db, new_row(db), ["reject"])
    audit.capture(db)
    inspecting.retry(db, rid, 1000.0, 2000.0)
    assert seen(db) == [("rejected", "pending")]


def test_another_program_that_opens_the_journal_fills_the_outbox_too(path: Path, db: Database) -> None:
    rid = new_row(db)
    audit.capture(db)
    db.close()
    other = opened(path)
    walk(other, rid, ["reject"])
    assert seen(other) == [("pending", "rejected")]
    other.close()


def test_nothing_is_captured_once_the_audit_log_is_off(db: Database) -> None:
    audit.capture(db)
    rid = new_row(db)
    audit.capture(db, wanted=False)
    walk(db, rid, ["answer"])
    assert len(audit.pending(db, 100)) == 1


def test_what_is_written_leaves_the_outbox_and_numbers_are_not_used_again(db: Database) -> None:
    audit.capture(db)
    rid = new_row(db)
    audit.written(db, End(line_hash="ab", seq=1))
    audit.capture(db)
    walk(db, rid, ["answer"])
    assert [one["seq"] for one in audit.pending(db, 100)] == [2]
    assert audit.read_head(db) == End(line_hash="ab", seq=1)
    walk(db, rid, ["sign"])
    audit.written(db, End(line_hash="cd", seq=2))
    assert [one["seq"] for one in audit.pending(db, 100)] == [3]


def test_before_the_first_line_there_is_no_head(db: Database) -> None:
    assert audit.read_head(db) is None
