"""What a row has been through is kept with each transition, briefly, and within bounds."""

from __future__ import annotations

import pytest

from kmsconn.journal import moves
from kmsconn.journal.database import Database
from kmsconn.journal.inspecting import history, retry, signed_hashes
from kmsconn.journal.rows import (
    DETAIL_CHARACTERS,
    HISTORY_CHARACTERS,
    HistoryEntry,
    line_of,
    read_history,
    signed_hash,
)
from kmsconn.model.life import State
from tests.unit.journal.samples import WAYS, arrival, new_row, rewind, row_of, take, walk


def steps(db: Database, rid: int) -> list[tuple[str, str]]:
    return [(entry.step, entry.detail) for entry in history(db, rid)]


def test_each_transition_is_one_line_with_what_it_came_with(db: Database) -> None:
    rid = walk(db, new_row(db), WAYS[State.SIGNED])
    moves.move(db, "confirm", rid, block=20)
    moves.move(db, "finalize", rid, block=21)
    assert steps(db, rid) == [
        ("answer", ""),
        ("sign", "nonce 1, 0x68617368"),
        ("confirm", "block 20"),
        ("finalize", "block 21"),
    ]
    assert [entry.at for entry in history(db, rid)] == [db.wall()] * 4


def test_deferrals_for_the_same_reason_are_one_line(db: Database) -> None:
    rid = new_row(db)
    for reason in ("Core down", "Core down", "Core down", "bucket down", "Core down"):
        moves.defer(db, rid, 5000.0, reason, stage="submit")
    assert steps(db, rid) == [("defer submit", "Core down"), ("defer submit", "bucket down"), ("defer submit", "Core down")]  # fmt: skip


def test_a_deferral_after_a_transition_is_a_line_of_its_own(db: Database) -> None:
    rid = walk(db, new_row(db), WAYS[State.SIGNED])
    moves.move(db, "release", rid, next_attempt=5000.0, reason="nonce taken")
    moves.defer(db, rid, 5000.0, "nonce taken")
    assert [step for step, _ in steps(db, rid)] == ["answer", "sign", "release", "defer"]


def test_the_stages_of_a_pass_stand_with_what_ended_it(db: Database) -> None:
    rid = new_row(db)
    db.stage_times[rid] = {"check": 0.01234, "gather": 1.5}
    moves.defer(db, rid, 5000.0, "Core down", stage="submit")
    moves.move(db, "reject", rid, reason="denied")
    first, second = history(db, rid)
    assert (first.stages, second.stages) == ({"check": 0.012, "gather": 1.5}, {})


def test_a_move_that_is_not_allowed_leaves_no_line(db: Database) -> None:
    rid = walk(db, new_row(db), WAYS[State.FINALIZED])
    before = steps(db, rid)
    assert not moves.move(db, "found_included", rid, block=9)
    assert steps(db, rid) == before


def test_leaving_the_chain_and_coming_back_are_lines(db: Database) -> None:
    rid = new_row(db)
    take(db)
    take(db, arrival(1, 12))
    assert steps(db, rid) == [("gone", ""), ("moved", "block 12")]


def test_a_reorganisation_below_the_request_is_a_line(db: Database) -> None:
    rid = new_row(db, block=10)
    rewind(db, 5)
    assert steps(db, rid) == [("gone", "")]


def test_what_an_operator_begins_again_says_how_it_had_ended(db: Database) -> None:
    rid = walk(db, new_row(db), WAYS[State.REJECTED])
    retry(db, rid, 3000.0, 9000.0)
    assert steps(db, rid) == [
        ("reject", "because"),
        ("retry", "retried by an operator; it had ended as rejected: because"),
    ]


def test_a_history_is_bounded_and_keeps_its_newest_lines(db: Database) -> None:
    rid = new_row(db)
    for number in range(1000):
        moves.defer(db, rid, 5000.0, f"reason {number} {'x' * 300}")
    (length,) = db.execute("SELECT length(history) FROM request").fetchone()
    assert length < HISTORY_CHARACTERS + 2 * DETAIL_CHARACTERS
    found = steps(db, rid)
    assert found[-1][1].startswith("reason 999 ")
    assert len(found) > 5


def test_a_line_that_cannot_be_read_is_left_out() -> None:
    text = '.5,"answer",{},""]\n' + line_of(7.0, "sign", "nonce 3") + "damage\n"
    assert read_history(text) == (HistoryEntry(7.0, "sign", {}, "nonce 3"),)


@pytest.mark.parametrize("reason", ['with "quotes"', "with\na line", "🜁", "\x00"])
def test_any_reason_is_read_as_it_was_written(reason: str) -> None:
    assert [entry.detail for entry in read_history(line_of(1.0, "reject", reason))] == [reason]


@pytest.mark.sqlite
def test_a_damaged_history_is_no_end(db: Database) -> None:
    rid = walk(db, new_row(db), ["answer"])
    db.execute("UPDATE request SET history = CAST(x'ff0a' AS TEXT) || history")
    assert steps(db, rid) == [("answer", "")]


def test_a_row_that_is_not_there_has_no_history(db: Database) -> None:
    assert history(db, 99) == ()


def test_all_that_was_signed_is_named_and_what_was_mined_is_kept(db: Database) -> None:
    first, second = b"\x01" * 32, b"\x02" * 32
    rid = walk(db, new_row(db), WAYS[State.ANSWERED])
    for reply_hash in (first, second):
        assert moves.sign(db, moves.Signing(rid, 7, b"raw", reply_hash)) is True
    assert signed_hashes(db, rid) == [first, second]
    moves.note_mined(db, rid, first)
    assert row_of(db, rid).reply.hash == first
    moves.move(db, "release", rid, next_attempt=0.0)
    moves.note_mined(db, rid, second)
    assert row_of(db, rid).reply.hash == first
    moves.move(db, "found_included", rid, block=9, reply_hash=second)
    assert row_of(db, rid).reply.hash == second


def test_a_signing_of_an_older_program_names_no_transaction(db: Database) -> None:
    assert signed_hash(HistoryEntry(7.0, "sign", {}, "nonce 3")) is None
    assert signed_hash(HistoryEntry(7.0, "sign", {}, "nonce 3, 0xno")) is None
    assert signed_hash(HistoryEntry(7.0, "confirm", {}, "block 3")) is None
