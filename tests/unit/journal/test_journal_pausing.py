"""Kinds that an operator has paused are remembered; requests that an operator has skipped are over."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmsconn.journal.database import Database
from kmsconn.journal.inspecting import InspectionError, PausedKind, pause, paused_kinds, resume, skip
from kmsconn.model.life import RowCause, State
from kmsconn.model.requests import Kind
from tests.unit.journal.samples import WAYS, arrival, new_row, opened, row_of, take, walk

PAUSED = PausedKind(Kind.USER_DECRYPTION, 1000.0, "the Core is repaired")


def test_a_pause_survives_a_restart(tmp_path: Path) -> None:
    for turn in range(2):
        db = opened(tmp_path / "j.db")
        try:
            assert pause(db, PAUSED) == (turn == 0)
            assert paused_kinds(db) == (PAUSED,)
        finally:
            db.close()


def test_a_second_pause_leaves_the_first_as_it_was(db: Database) -> None:
    pause(db, PAUSED)
    assert not pause(db, PausedKind(Kind.USER_DECRYPTION, 2000.0, "another"))
    assert paused_kinds(db) == (PAUSED,)


def test_resuming_ends_the_pause_of_that_kind_alone(db: Database) -> None:
    other = PausedKind(Kind.KEYGEN, 5.0)
    pause(db, PAUSED)
    pause(db, other)
    assert resume(db, Kind.USER_DECRYPTION)
    assert not resume(db, Kind.USER_DECRYPTION)
    assert paused_kinds(db) == (other,)


@pytest.mark.parametrize("state", [State.PENDING, State.ANSWERED, State.QUARANTINED])
def test_an_open_or_quarantined_request_is_skipped_with_the_reason(db: Database, state: State) -> None:
    rid = walk(db, new_row(db), WAYS[state])
    skip(db, rid, "a test request")
    row = row_of(db, rid)
    assert (row.state, row.progress.reason, row.progress.cause) == (
        State.REJECTED,
        "skipped by an operator: a test request",
        RowCause.SKIPPED,
    )


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (State.SIGNED, "cannot be taken back"),
        (State.INCLUDED, "included already"),
        (State.FINALIZED, "final already"),
        (State.EXPIRED, "ended already"),
        (State.REJECTED, "ended already"),
        (State.DONE, "finished it already"),
        (State.ABORTED, "asked for its abort"),
    ],
)
def test_what_is_signed_or_over_is_not_skipped(db: Database, state: State, why: str) -> None:
    rid = walk(db, new_row(db), WAYS[state])
    before = row_of(db, rid)
    with pytest.raises(InspectionError, match=why):
        skip(db, rid, "no")
    assert row_of(db, rid) == before


@pytest.mark.parametrize("way", [[], ["answer"]])
def test_a_skipped_request_is_not_judged_anew_in_another_block(db: Database, way: list[str]) -> None:
    """A rejected one is: the contract of its old branch may have said so; here an operator did."""
    rid = walk(db, new_row(db), way)
    skip(db, rid, "no")
    take(db, arrival(1, 12))
    assert row_of(db, rid).state is State.REJECTED


def test_a_row_that_is_not_there_is_not_skipped(db: Database) -> None:
    with pytest.raises(InspectionError, match="no such row"):
        skip(db, 99, "no")
