"""Rows of the decision tables where only who answered, when, or in which words decides; and every action is explained."""

from __future__ import annotations

import pytest
import trio

from kmsconn.chain.looking import ChainView
from kmsconn.chain.port import Receipt
from kmsconn.model.life import State
from kmsconn.protocols.port import Revert, Verdict
from kmsconn.replies import shadow
from kmsconn.replies.answers import Accepts, Finds, Question, Says
from kmsconn.replies.manager import Rounds
from kmsconn.replies.plan import TABLE, Table, assess
from kmsconn.replies.table import ROWS
from kmsconn.replies.view import Action, Finding
from tests.unit.replies.world import World
from tools.gen_transactions import MEANINGS

FORKED_AT, SINCE, BEFORE = 10.0, 11.0, 9.0
CHAIN = ChainView(200, 7, None, 1, True, 4, final=100, balance=None, at=SINCE, forked_at=FORKED_AT)
HAS_IT = Revert("answered", (), Verdict.DONE)


def found(value: Finds, *, trusted: bool = True, asked_at: float = SINCE, again: float = 15.0) -> Finding:
    return Finding(value, CHAIN.number, trusted, asked_at, SINCE, again)


async def assessed(
    world: World, findings: dict[Question, Finding], rows: Table
) -> tuple[Action, tuple[Question, ...]]:
    """Return what is done at 12 with the only reply of a world, and what is asked."""
    await trio.sleep_until(12.0)
    rounds = Rounds.of(world.manager())
    track = rounds.state.tracks.note(world.journal.rows[1])
    track.findings.update(findings)
    row, what = assess(rounds.view(CHAIN), track, rows)
    return row.action, what.questions


def test_every_action_occurs_and_is_explained() -> None:
    assert {row.action for row in ROWS} == set(Action) == set(MEANINGS)


@pytest.mark.parametrize(
    ("said", "action"),
    [
        (Accepts(50_000), Action.FINISH),
        (HAS_IT, Action.CONFIRM),
        (Revert("EnforcedPause", (), Verdict.RETRY), Action.DEFER),  # InvalidKmsContext has this verdict too
    ],
    ids=["takes it", "has it", "not now"],
)
async def test_an_overdue_reply_is_missing_only_where_the_contract_would_take_it(
    said: Says, action: Action
) -> None:
    world = World()
    world.request(1)
    assert await assessed(world, {Question.ESTIMATE: found(said)}, shadow.TABLE) == (action, ())


@pytest.mark.parametrize(
    ("trusted", "asked_at", "expected"),
    [
        (True, SINCE, (Action.FINALIZE, ())),
        (False, SINCE, (Action.ASK, (Question.RECEIPT,))),
        (True, BEFORE, (Action.ASK, (Question.RECEIPT,))),
    ],
    ids=["good", "of a node that lags", "asked before the fork"],
)
async def test_a_receipt_of_another_branch_makes_no_reply_final(
    trusted: bool, asked_at: float, expected: tuple[Action, tuple[Question, ...]]
) -> None:
    """The contract has the reply, in a later block perhaps than the final one that this receipt shows."""
    world = World()
    world.request(1)
    world.journal.change(1, state=State.INCLUDED, reply_hash=bytes(32), included_block=44)
    shown = found(Receipt(44, succeeded=True), trusted=trusted, asked_at=asked_at, again=SINCE)
    findings = {Question.CALL: found(HAS_IT), Question.RECEIPT: shown}
    assert await assessed(world, findings, TABLE) == expected


@pytest.mark.parametrize(
    ("block", "expected"), [(CHAIN.final, Action.FINALIZE), (CHAIN.final + 1, Action.WAIT)]
)
async def test_a_reply_is_final_only_once_the_block_of_its_receipt_is(block: int, expected: Action) -> None:
    """A branch that came back may have it later than the block where it was included first."""
    world = World()
    world.request(1)
    world.journal.change(1, state=State.INCLUDED, reply_hash=bytes(32), included_block=44)
    findings = {Question.CALL: found(HAS_IT), Question.RECEIPT: found(Receipt(block, succeeded=True))}
    assert await assessed(world, findings, TABLE) == (expected, ())


@pytest.mark.parametrize(
    ("block", "expected"), [(CHAIN.final, Action.FINALIZE), (CHAIN.final + 1, Action.WAIT)]
)
async def test_a_reply_that_was_found_is_final_only_once_the_block_of_the_look_is(
    block: int, expected: Action
) -> None:
    """Another transaction brought it: there is no receipt to ask for."""
    world = World()
    world.request(1)
    world.journal.change(1, state=State.INCLUDED, included_block=block)
    assert await assessed(world, {Question.CALL: found(HAS_IT)}, TABLE) == (expected, ())
