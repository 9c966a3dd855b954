"""A fork of the chain in the journal: back to it, nothing above it is final, and what stands above the new head is gone."""

from __future__ import annotations

import pytest

from kmsconn.chain.fork import NO_DOUBTS, Doubts
from kmsconn.journal import moves, queries
from kmsconn.journal.database import Database
from kmsconn.journal.rewinding import note_doubts, rewind
from kmsconn.journal.values import Recorded
from kmsconn.model.life import BLOCK_UNKNOWN, RowCause, State
from tests.unit.journal.samples import (
    ANSWER,
    CHAIN,
    CONTRACT,
    WAYS,
    arrival,
    dump,
    new_row,
    row_of,
    take,
    walk,
)

HERE = CHAIN, CONTRACT


def test_doubts_stay_until_the_fork_is_believed(db: Database) -> None:
    take(db, blocks=(0, 60))
    note_doubts(db, *HERE, Doubts(5.0, 7.0))
    take(db, blocks=(60, 70))
    assert queries.doubts(db, *HERE) == Doubts(5.0, 7.0)
    rewind(db, *HERE, 90, 90)
    assert (queries.doubts(db, *HERE), queries.cursor(db, *HERE)) == (NO_DOUBTS, 71)


@pytest.mark.parametrize(("fork", "state"), [(19, State.INCLUDED), (20, State.FINALIZED)])
def test_a_final_reply_above_the_fork_is_included_only_and_keeps_its_answer(
    db: Database, fork: int, state: State
) -> None:
    """Its request stands in block 10, the reply in block 20."""
    rid = walk(db, new_row(db), WAYS[State.FINALIZED])
    assert rewind(db, *HERE, fork, 90).reopened == (state is State.INCLUDED)
    row = row_of(db, rid)
    assert (row.state, row.answer, row.reply.raw) == (state, ANSWER, b"raw")
    assert row.reply.included_block == min(20, fork)
    unknown = (BLOCK_UNKNOWN, RowCause.BLOCK_UNKNOWN)
    assert ((row.progress.reason, row.progress.cause) == unknown) == (fork < 20)


def test_a_reply_found_without_a_block_is_asked_for_again_when_its_request_stands_above_the_fork(
    db: Database,
) -> None:
    rid = new_row(db)
    assert moves.move(db, "found_finalized", rid, reason="", block=None)
    rewind(db, *HERE, 5, 90)
    assert (row_of(db, rid).state, row_of(db, rid).reply.included_block) == (State.INCLUDED, 5)


@pytest.mark.parametrize("state", list(State))
def test_what_stands_above_the_new_head_is_off_chain_and_comes_back_with_its_block(
    db: Database, state: State
) -> None:
    rid = walk(db, new_row(db, 1, 30), WAYS[state])
    assert rewind(db, *HERE, 25, 28).gone == 1
    assert not row_of(db, rid).on_chain
    take(db, arrival(1, 31, fork="'"), blocks=(26, 40))
    assert row_of(db, rid).on_chain


def test_another_contract_of_the_chain_is_left_alone(db: Database) -> None:
    walk(db, new_row(db), WAYS[State.FINALIZED])
    before = dump(db)
    rewind(db, CHAIN, type(CONTRACT)(b"\x01" * 20), 0, 0)
    assert dump(db) == before


@pytest.mark.parametrize("state", [State.REJECTED, State.DONE])
def test_what_ended_in_another_block_is_judged_anew(db: Database, state: State) -> None:
    rid = walk(db, new_row(db), WAYS[state])
    moved = arrival(1, 12)
    assert take(db, moved) == Recorded(moved=1, back=((rid, moved),))
    assert row_of(db, rid).state is State.PENDING


@pytest.mark.parametrize("state", [State.EXPIRED, State.QUARANTINED, State.ABORTED, State.FINALIZED])
def test_what_does_not_depend_on_the_block_stays_as_it_ended(db: Database, state: State) -> None:
    rid = walk(db, new_row(db), WAYS[state])
    assert take(db, arrival(1, 12)) == Recorded(moved=1)
    assert row_of(db, rid).state is state
