"""Every transition from every state: it happens where ``model.life`` allows it, else nothing changes."""

from __future__ import annotations

from itertools import product

import pytest

from kmsconn.errors import NonceTaken
from kmsconn.journal import moves
from kmsconn.journal.book import Book
from kmsconn.model.life import TRANSITIONS, WAITING, State
from kmsconn.model.steps import Answer
from tests.unit.journal.samples import (
    ANSWER,
    SIGNER,
    WAYS,
    arrival,
    dump,
    move,
    new_row,
    row_of,
    signing,
    take,
    walk,
)


def in_state(book: Book, state: State, **others: int) -> int:
    return walk(book, new_row(book, **others), WAYS[state])


def ready(book: Book, transition: str, state: State, **others: int) -> int:
    way = WITH_ANSWER[state] if transition == "reoffer" else WAYS[state]
    return walk(book, new_row(book, **others), way)


def allowed(transition: str, state: State) -> bool:
    """``restart`` of a closed row is an operator's, which this port does not offer."""
    return state in TRANSITIONS[transition][0] and (transition != "restart" or state is State.INCLUDED)


WITH_ANSWER = {
    State.REJECTED: ("answer", "reject"),
    State.DONE: ("answer", "finish"),
}
"""Ways into states for the transition that needs an answer."""

CASES = list(product(TRANSITIONS, State))


@pytest.mark.parametrize(("transition", "state"), [case for case in CASES if allowed(*case)])
def test_an_allowed_transition_happens(book: Book, transition: str, state: State) -> None:
    rid = ready(book, transition, state)
    assert move(book, transition, rid)
    assert row_of(book, rid).state == TRANSITIONS[transition][1]


@pytest.mark.parametrize(("transition", "state"), [case for case in CASES if not allowed(*case)])
def test_any_other_transition_changes_nothing(book: Book, transition: str, state: State) -> None:
    rid = in_state(book, state)
    before, tick = dump(book), book.tick
    assert not move(book, transition, rid)
    assert (dump(book), book.tick) == (before, tick)


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_transition_of_a_row_that_is_not_there_says_so(book: Book, transition: str) -> None:
    assert not move(book, transition, 99)


@pytest.mark.parametrize(("transition", "state"), [case for case in CASES if allowed(*case)])
def test_a_transition_touches_its_own_row_only(book: Book, transition: str, state: State) -> None:
    other = in_state(book, state, id_=2)
    before = row_of(book, other)
    assert move(book, transition, ready(book, transition, state, id_=3))
    assert row_of(book, other) == before


@pytest.mark.parametrize(("transition", "state"), [case for case in CASES if allowed(*case)])
def test_a_transition_grows_the_tick_and_marks_its_row(book: Book, transition: str, state: State) -> None:
    rid = ready(book, transition, state)
    tick = book.tick
    move(book, transition, rid)
    assert book.tick == tick + 1
    assert book.execute("SELECT tick FROM request WHERE rid = ?", (rid,)).fetchone() == (book.tick,)


@pytest.mark.parametrize(
    ("transition", "state"), [case for case in CASES if allowed(*case) and case[1] in WAITING]
)
def test_a_transition_ends_the_deferral(book: Book, transition: str, state: State) -> None:
    rid = in_state(book, state)
    moves.defer(book, rid, 5000.0, "later", 3600.0)
    move(book, transition, rid)
    assert row_of(book, rid).deferred == 0
    assert book.execute("SELECT max_wait FROM request").fetchone() == (moves.LONGEST_WAIT,)


@pytest.mark.parametrize("state", State)
def test_only_waiting_rows_are_deferred(book: Book, state: State) -> None:
    rid = in_state(book, state)
    assert moves.defer(book, rid, 5000.0, "later", 60.0) == (state in WAITING)
    assert row_of(book, rid).state == state


def test_deferrals_in_a_row_are_counted(book: Book) -> None:
    rid = new_row(book)
    for reason in ("first", "second"):
        moves.defer(book, rid, 5000.0, reason, 60.0)
    row = row_of(book, rid)
    assert (row.deferred, row.next_attempt, row.reason) == (2, 5000.0, "second")


def test_deferral_is_no_move(book: Book) -> None:
    """A read that was asked before still judges the row."""
    rid = new_row(book)
    tick = book.tick
    moves.defer(book, rid, 5000.0, "later", 60.0)
    assert book.tick == tick


def test_an_answer_is_kept_with_its_signer_and_is_due_at_once(book: Book) -> None:
    rid = new_row(book)
    moves.answer(book, rid, ANSWER, 1234.0)
    row = row_of(book, rid)
    assert (row.answer, row.answered_at, row.next_attempt) == (ANSWER, 1234.0, 1234.0)


def test_a_second_answer_replaces_nothing(book: Book) -> None:
    rid = in_state(book, State.ANSWERED)
    assert not moves.answer(book, rid, Answer(b"another", SIGNER), 2000.0)
    assert row_of(book, rid).answer == ANSWER


@pytest.mark.parametrize("state", [state for state in State if "answer" in WAYS[state]])
def test_an_answer_is_kept_ever_after(book: Book, state: State) -> None:
    assert row_of(book, in_state(book, state)).answer == ANSWER


def test_a_late_duplicate_does_not_open_a_finished_request(book: Book) -> None:
    """Bug 13: completed turned back to pending."""
    rid = in_state(book, State.FINALIZED)
    assert take(book, arrival(1, 10)).new == ()
    assert row_of(book, rid).state == State.FINALIZED


def test_signing_keeps_nonce_bytes_and_hash(book: Book) -> None:
    rid = in_state(book, State.ANSWERED)
    assert moves.sign(book, signing(rid, 7, b"bytes", b"hash"))
    row = row_of(book, rid)
    assert (row.nonce, row.raw, row.reply_hash) == (7, b"bytes", b"hash")


def test_signing_again_replaces_bytes_and_nonce(book: Book) -> None:
    rid = in_state(book, State.SIGNED)
    assert moves.sign(book, signing(rid, 8, b"dearer", b"other"))
    row = row_of(book, rid)
    assert (row.nonce, row.raw, row.reply_hash) == (8, b"dearer", b"other")


@pytest.mark.parametrize("state", [State.ANSWERED, State.SIGNED])
def test_a_nonce_is_given_to_one_signed_row_only(book: Book, state: State) -> None:
    first, second = in_state(book, State.SIGNED, id_=1), in_state(book, state, id_=2)
    before = dump(book)
    with pytest.raises(NonceTaken, match=str(first)):
        moves.sign(book, signing(second, first, b"bytes", b"hash"))
    assert dump(book) == before


@pytest.mark.parametrize("way", ["release", "confirm", "reject"])
def test_a_nonce_may_be_given_again_once_its_row_is_signed_no_more(book: Book, way: str) -> None:
    first, second = in_state(book, State.SIGNED, id_=1), in_state(book, State.ANSWERED, id_=2)
    move(book, way, first)
    assert moves.sign(book, signing(second, first, b"bytes", b"hash"))


def test_nobody_signs_for_a_request_that_left_the_chain(book: Book) -> None:
    rid = in_state(book, State.ANSWERED)
    take(book)
    assert not moves.sign(book, signing(rid, 7, b"bytes", b"hash"))


def test_what_is_signed_is_signed_again_wherever_its_request_is(book: Book) -> None:
    """Its nonce flies; leaving a hole would hold up everybody behind it."""
    rid = in_state(book, State.SIGNED)
    take(book)
    assert moves.sign(book, signing(rid, 7, b"dearer", b"hash"))


@pytest.mark.parametrize(("state", "way"), [(State.SIGNED, "release"), (State.INCLUDED, "resend")])
def test_a_reply_that_goes_back_keeps_its_bytes(book: Book, state: State, way: str) -> None:
    """A process killed before it signs again must know what a pool may still include."""
    rid = in_state(book, state)
    move(book, way, rid)
    row = row_of(book, rid)
    assert (row.nonce, row.raw, row.reply_hash, row.included_block) == (1, b"raw", b"hash", None)
    assert row.reason == "because"


def test_a_request_that_begins_again_drops_its_bytes(book: Book) -> None:
    rid = in_state(book, State.INCLUDED)
    move(book, "restart", rid)
    row = row_of(book, rid)
    assert (row.nonce, row.raw, row.reply_hash, row.included_block) == (None, None, None, None)


@pytest.mark.parametrize("state", [State.INCLUDED, State.FINALIZED])
def test_a_included_reply_keeps_its_bytes(book: Book, state: State) -> None:
    row = row_of(book, in_state(book, state))
    assert (row.raw, row.included_block) == (b"raw", 20)


def test_without_an_answer_there_is_nothing_to_send_again(book: Book) -> None:
    rid = walk(book, new_row(book), ["found_included"])
    assert not move(book, "resend", rid)
    assert move(book, "restart", rid)


@pytest.mark.parametrize("submitted", [True, False])
def test_what_the_core_knows_is_written_down(book: Book, submitted: bool) -> None:
    rid = new_row(book)
    moves.note_submitted(book, rid, not submitted)
    moves.note_submitted(book, rid, submitted)
    assert row_of(book, rid).submitted is submitted
