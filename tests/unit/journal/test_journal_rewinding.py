"""A fork of the chain in the journal: back to it, nothing above it is final, and what stands above the new head is gone."""

from __future__ import annotations

import pytest

from kmsconn.chain.fork import NO_DOUBTS, Checkpoint, Doubts, Extension
from kmsconn.journal import inspecting, moves, queries
from kmsconn.journal.database import Database
from kmsconn.journal.rewinding import note_doubts, rewind
from kmsconn.journal.values import Recorded, Rewound
from kmsconn.model.life import BLOCK_UNKNOWN, RowCause, State
from tests.unit.journal.samples import (
    ANSWER,
    CHAIN,
    CONTRACT,
    WAYS,
    arrival,
    bytes32,
    dump,
    new_row,
    row_of,
    take,
    walk,
)

HERE = CHAIN, CONTRACT


def test_the_cursor_goes_back_to_the_block_above_the_fork_and_hashes_above_it_are_forgotten(
    db: Database,
) -> None:
    kept = tuple(Checkpoint(number, bytes32(f"block {number}")) for number in (40, 50, 60))
    take(db, blocks=(0, 60), extension=Extension(kept, kept))
    rewind(db, *HERE, 50, 70)
    assert queries.cursor(db, *HERE) == 51
    assert queries.checkpoints(db, *HERE) == kept[:2]


def test_a_fork_above_the_cursor_moves_nothing(db: Database) -> None:
    take(db, blocks=(0, 60))
    before = dump(db)
    assert rewind(db, *HERE, 80, 90) == Rewound()
    assert (queries.cursor(db, *HERE), dump(db)) == (61, before)


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


def test_an_included_reply_is_looked_at_once_the_fork_is_old(db: Database) -> None:
    rid = walk(db, new_row(db), WAYS[State.INCLUDED])
    assert rewind(db, *HERE, 15, 90) == Rewound()
    assert row_of(db, rid).reply.included_block == 15


@pytest.mark.parametrize("fork", [15, 18])
def test_a_reply_that_became_final_after_one_fork_is_above_the_next(db: Database, fork: int) -> None:
    rid = walk(db, new_row(db), WAYS[State.INCLUDED])
    rewind(db, *HERE, 15, 90)
    assert moves.finalize(db, (rid, 25))
    assert rewind(db, *HERE, fork, 90) == Rewound(reopened=1)
    assert (row_of(db, rid).state, row_of(db, rid).reply.included_block) == (State.INCLUDED, fork)


@pytest.mark.parametrize("state", list(State))
def test_what_stands_above_the_new_head_is_off_chain_and_comes_back_with_its_block(
    db: Database, state: State
) -> None:
    rid = walk(db, new_row(db, 1, 30), WAYS[state])
    assert rewind(db, *HERE, 25, 28).gone == 1
    assert not row_of(db, rid).on_chain
    take(db, arrival(1, 31, fork="'"), blocks=(26, 40))
    assert row_of(db, rid).on_chain


def test_what_stands_between_fork_and_head_waits_for_its_block_to_be_read(db: Database) -> None:
    rid = new_row(db, 1, 30)
    assert rewind(db, *HERE, 25, 40) == Rewound()
    assert row_of(db, rid).on_chain
    assert take(db, blocks=(26, 40)) == Recorded(gone=1)


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


@pytest.mark.parametrize("state", [State.REJECTED, State.DONE])
def test_what_ended_and_stands_where_it_stood_stays(db: Database, state: State) -> None:
    rid = walk(db, new_row(db), WAYS[state])
    assert take(db, arrival(1, 10)) == Recorded()
    assert row_of(db, rid).state is state


@pytest.mark.parametrize("state", [State.EXPIRED, State.QUARANTINED, State.ABORTED, State.FINALIZED])
def test_what_does_not_depend_on_the_block_stays_as_it_ended(db: Database, state: State) -> None:
    rid = walk(db, new_row(db), WAYS[state])
    assert take(db, arrival(1, 12)) == Recorded(moved=1)
    assert row_of(db, rid).state is state


def test_logs_above_the_fork_that_could_not_be_decoded_are_forgotten(db: Database) -> None:
    """Their ids would pass for recorded, though other content may stand under them now."""
    logs = [arrival(1, block).log for block in (50, 51)]
    take(db, undecodable=[(log, "no") for log in logs])
    rewind(db, *HERE, 50, 70)
    assert [log.block_number for log in inspecting.quarantined(db, *HERE)] == [50]
