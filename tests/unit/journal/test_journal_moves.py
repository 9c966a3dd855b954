"""Every transition from every state: it happens where ``model.life`` allows it, else nothing changes."""

from __future__ import annotations

from itertools import product

import pytest

from kmsconn.errors import NonceTaken
from kmsconn.journal import moves
from kmsconn.journal.database import Database
from kmsconn.model.life import TRANSITIONS, WAITING, Answer, RowCause, State
from tests.unit.journal.samples import (
    ANSWER,
    SIGNER,
    WAYS,
    arrival,
    dump,
    keep,
    move,
    new_row,
    row_of,
    signing,
    take,
    walk,
)


def in_state(db: Database, state: State, **others: int) -> int:
    return walk(db, new_row(db, **others), WAYS[state])


def ready(db: Database, transition: str, state: State, **others: int) -> int:
    way = WITH_ANSWER[state] if transition == "reoffer" else WAYS[state]
    return walk(db, new_row(db, **others), way)


def allowed(transition: str, state: State) -> bool:
    """``restart`` of a closed row is an operator's, which this port does not offer; ``repeat`` is for what came over HTTP."""
    if transition == "repeat":
        return False
    return state in TRANSITIONS[transition][0] and (transition != "restart" or state is State.INCLUDED)


WITH_ANSWER = {State.REJECTED: ("answer", "reject"), State.DONE: ("answer", "finish")}
"""Ways into states for the transition that needs an answer."""

CASES = list(product(TRANSITIONS, State))


@pytest.mark.parametrize(("transition", "state"), [case for case in CASES if allowed(*case)])
def test_an_allowed_transition_happens_grows_the_tick_and_touches_its_own_row_only(
    db: Database, transition: str, state: State
) -> None:
    other = in_state(db, state, id_=2)
    rid, before = ready(db, transition, state, id_=3), row_of(db, other)
    tick = db.tick
    assert move(db, transition, rid)
    assert row_of(db, rid).state == TRANSITIONS[transition][1]
    assert row_of(db, other) == before
    assert db.tick == tick + 1
    if transition in {"sign", "confirm", "finalize", "deliver"}:
        assert db.answers_tick < db.tick
    elif State.ANSWERED in {state, TRANSITIONS[transition][1]}:
        assert db.answers_tick == db.tick


@pytest.mark.parametrize("state", State)
def test_any_other_transition_changes_nothing(db: Database, state: State) -> None:
    rid = in_state(db, state)
    before, tick = dump(db), db.tick
    for transition in TRANSITIONS:
        if not allowed(transition, state):
            assert not move(db, transition, rid), transition
            assert (dump(db), db.tick) == (before, tick), transition


def test_a_transition_of_a_row_that_is_not_there_says_so(db: Database) -> None:
    assert [transition for transition in TRANSITIONS if move(db, transition, 99)] == []


@pytest.mark.parametrize(
    ("transition", "state"), [case for case in CASES if allowed(*case) and case[1] in WAITING]
)
def test_a_transition_ends_the_deferral(db: Database, transition: str, state: State) -> None:
    rid = in_state(db, state)
    moves.defer(db, rid, 5000.0, "later", max_wait=3600.0)
    move(db, transition, rid)
    assert row_of(db, rid).progress.deferred == 0
    assert db.execute("SELECT max_wait FROM request").fetchone() == (moves.LONGEST_WAIT,)


@pytest.mark.parametrize("state", State)
def test_only_waiting_rows_are_deferred(db: Database, state: State) -> None:
    rid = in_state(db, state)
    assert moves.defer(db, rid, 5000.0, "later") == (state in WAITING)
    assert row_of(db, rid).state == state


def test_deferrals_in_a_row_are_counted_and_are_no_moves(db: Database) -> None:
    """A read that was asked before still judges the row."""
    rid = new_row(db)
    tick = db.tick
    for reason in ("first", "second"):
        moves.defer(db, rid, 5000.0, reason)
    row = row_of(db, rid)
    assert (row.progress.deferred, row.progress.next_attempt, row.progress.reason) == (2, 5000.0, "second")
    assert db.tick == tick


def test_only_what_a_core_has_refused_is_hurried_and_only_that_shard(db: Database) -> None:
    rids = [new_row(db, id_=number) for number in (2, 3, 4)]
    for rid, cause in zip(
        rids, (RowCause.REFUSED_BY_CORE, RowCause.REFUSED_BY_CORE, RowCause.NONE), strict=True
    ):
        moves.defer(db, rid, 1e6, "INTERNAL", cause=cause)
    kinds = [row_of(db, rids[0]).kind]
    assert [moves.hurry(db, kinds, 0, 2) for _ in range(2)] == [True, False]
    waits = [row_of(db, rid).progress.next_attempt > db.wall() for rid in rids]
    assert waits == [False, True, True]


def test_an_answer_is_kept_with_its_signer_and_is_due_at_once_and_a_second_replaces_nothing(
    db: Database,
) -> None:
    rid = new_row(db)
    keep(db, rid, ANSWER, 1234.0)
    assert not keep(db, rid, Answer(b"another", SIGNER), 2000.0)
    row = row_of(db, rid)
    assert (row.answer, row.times.answered, row.progress.next_attempt) == (ANSWER, 1234.0, 1234.0)


@pytest.mark.parametrize("state", [state for state in State if "answer" in WAYS[state]])
def test_an_answer_is_kept_ever_after(db: Database, state: State) -> None:
    assert row_of(db, in_state(db, state)).answer == ANSWER


def test_a_late_duplicate_does_not_open_a_finished_request(db: Database) -> None:
    """Bug 13: completed turned back to pending."""
    rid = in_state(db, State.FINALIZED)
    assert take(db, arrival(1, 10)).new == ()
    assert row_of(db, rid).state == State.FINALIZED


def test_signing_keeps_nonce_bytes_and_hash_and_signing_again_replaces_them(db: Database) -> None:
    rid = in_state(db, State.ANSWERED)
    for nonce, raw, digest in ((7, b"bytes", b"hash"), (8, b"dearer", b"other")):
        assert moves.sign(db, signing(rid, nonce, raw, digest)) is True
        row = row_of(db, rid)
        assert (row.reply.nonce, row.reply.raw, row.reply.hash) == (nonce, raw, digest)


@pytest.mark.parametrize("state", [State.ANSWERED, State.SIGNED])
def test_a_nonce_is_given_to_one_signed_row_only(db: Database, state: State) -> None:
    first, second = in_state(db, State.SIGNED, id_=1), in_state(db, state, id_=2)
    before = dump(db)
    taken = moves.sign(db, signing(second, first, b"bytes", b"hash"))
    assert isinstance(taken, NonceTaken)
    assert str(first) in str(taken)
    assert dump(db) == before


@pytest.mark.parametrize("way", ["release", "confirm", "reject"])
def test_a_nonce_may_be_given_again_once_its_row_is_signed_no_more(db: Database, way: str) -> None:
    first, second = in_state(db, State.SIGNED, id_=1), in_state(db, State.ANSWERED, id_=2)
    move(db, way, first)
    assert moves.sign(db, signing(second, first, b"bytes", b"hash")) is True


def test_nobody_signs_for_a_request_that_left_the_chain(db: Database) -> None:
    rid = in_state(db, State.ANSWERED)
    take(db)
    assert moves.sign(db, signing(rid, 7, b"bytes", b"hash")) is False


def test_what_is_signed_is_signed_again_wherever_its_request_is(db: Database) -> None:
    """Its nonce flies; leaving a hole would hold up everybody behind it."""
    rid = in_state(db, State.SIGNED)
    take(db)
    assert moves.sign(db, signing(rid, 7, b"dearer", b"hash")) is True


@pytest.mark.parametrize(("state", "way"), [(State.SIGNED, "release"), (State.INCLUDED, "resend")])
def test_a_reply_that_goes_back_keeps_its_bytes(db: Database, state: State, way: str) -> None:
    """A process killed before it signs again must know what a pool may still include."""
    rid = in_state(db, state)
    moves.move(db, way, rid, reason="because", next_attempt=1030.0)
    row = row_of(db, rid)
    assert (row.reply.nonce, row.reply.raw, row.reply.hash, row.reply.included_block) == (
        1,
        b"raw",
        b"hash",
        None,
    )
    assert (row.progress.reason, row.progress.next_attempt) == ("because", 1030.0)


def test_a_request_that_begins_again_drops_its_bytes(db: Database) -> None:
    rid = in_state(db, State.INCLUDED)
    moves.move(db, "restart", rid, next_attempt=1030.0)
    row = row_of(db, rid)
    assert row.progress.next_attempt == 1030.0
    assert (row.reply.nonce, row.reply.raw, row.reply.hash, row.reply.included_block) == (
        None,
        None,
        None,
        None,
    )


@pytest.mark.parametrize("state", [State.INCLUDED, State.FINALIZED])
def test_a_included_reply_keeps_its_bytes(db: Database, state: State) -> None:
    row = row_of(db, in_state(db, state))
    assert (row.reply.raw, row.reply.included_block) == (b"raw", 20)
    moves.move(db, "finalize", row.rid, block=21)
    assert row_of(db, row.rid).reply.included_block == (21 if state is State.INCLUDED else 20)


def test_without_an_answer_there_is_nothing_to_send_again(db: Database) -> None:
    rid = walk(db, new_row(db), ["found_included"])
    assert not move(db, "resend", rid)
    assert move(db, "restart", rid)


@pytest.mark.parametrize("submitted", [True, False])
def test_what_the_core_knows_is_written_down(db: Database, submitted: bool) -> None:
    rid = new_row(db)
    for db.notes[rid] in (not submitted, submitted):
        assert moves.defer(db, rid, 1010.0, "waits")
    assert moves.defer(db, rid, 1010.0, "waits")
    assert row_of(db, rid).progress.submitted is submitted
