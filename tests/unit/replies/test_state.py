"""What the state of a transaction manager remembers beside its rows ends with them; and what of it is told."""

from __future__ import annotations

from typing import Literal

import attrs
import pytest

from kmsconn.journal.queries import Due
from kmsconn.journal.rows import RowReply
from kmsconn.model.life import State
from kmsconn.replies.answers import Question, Unclear
from kmsconn.replies.sending import ReplyMoves
from kmsconn.replies.state import LOOK_AGAIN, Backlog, TxAlerts, TxState, tell_answer
from kmsconn.replies.view import Found
from tests.unit.replies.world import World


@pytest.mark.parametrize("end", ["reject", "finish"])
async def test_nothing_is_remembered_of_a_reply_that_was_returned_and_ended(
    end: Literal["reject", "finish"],
) -> None:
    world = World()
    state = TxState.of(world.manager())
    moves = ReplyMoves(state)
    world.request(1)
    row = world.journal.rows[1]
    track = state.tracks.note(attrs.evolve(row, state=State.SIGNED, reply=RowReply(0, b"raw", bytes(32))))
    await moves.release(track, Found("status 0"))
    assert state.tracks.histories[row.rid].returned == 1
    await moves.close(end, state.tracks.note(row), Found("never"))
    assert (state.tracks.by_rid, state.tracks.histories) == ({}, {})


NOTHING_WAITS, LATER = Due((), None), Due((), 30.0)


@pytest.mark.parametrize(
    ("said", "tick", "wall", "due"),
    [
        (NOTHING_WAITS, 7, 11.0, False),
        (NOTHING_WAITS, 8, 11.0, True),  # a row moved
        (LATER, 7, 29.0, False),
        (LATER, 7, 30.0, True),  # a deferred one is due
        (NOTHING_WAITS, 7, 9.0, True),  # the clock was set back
        (NOTHING_WAITS, 7, 10.0 + LOOK_AGAIN, True),
    ],
)
def test_the_journal_is_asked_for_answers_only_when_it_may_tell_new_ones(
    said: Due, tick: int, wall: float, due: bool
) -> None:
    backlog = Backlog()
    backlog.take(said, 7, 10.0)
    assert backlog.is_due(tick, wall) == due
    backlog.unsure = True
    assert backlog.is_due(tick, wall)


@pytest.mark.parametrize(
    ("question", "state", "causes"),
    [
        (Question.RECEIPT, State.SIGNED, ["receipt-unanswered"]),
        (Question.RECEIPT, State.INCLUDED, []),  # the contract tells as well
        (Question.CALL, State.INCLUDED, ["contract-unanswered"]),
    ],
)
async def test_no_alert_waits_for_the_receipt_of_an_included_reply(
    question: Question, state: State, causes: list[str]
) -> None:
    world = World()
    world.request(1)
    alerts = TxAlerts("txmanager gateway", world.events.append)
    tell_answer(alerts, attrs.evolve(world.journal.rows[1], state=state), question, Unclear("busy"), 0.0)
    assert [one.reason.cause for one in alerts.to_a_block.holdups(0.0)] == causes
