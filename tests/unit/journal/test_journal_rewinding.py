"""A fork of the chain in the journal: back to it, nothing above it stands or is final."""

from __future__ import annotations

import pytest

from kmsconn.chain.fork import Checkpoint, Followed, Rewound
from kmsconn.chain.logs import BlockHead
from kmsconn.ethereum.addresses import Address
from kmsconn.journal import inspecting, moves, queries, retention
from kmsconn.journal.database import Database
from kmsconn.journal.queries import ReadUpTo
from kmsconn.journal.recording import Recorded, begin
from kmsconn.journal.retention import note_doubt
from kmsconn.model.events import ReplyReturned
from kmsconn.model.life import REORGANISED, State
from kmsconn.model.requests import Kind
from tests.unit.journal.samples import (
    ANSWER,
    CHAIN,
    CONTRACT,
    WAYS,
    arrival,
    bytes32,
    dump,
    new_row,
    rewind,
    row_of,
    take,
    walk,
)

HERE = CHAIN, CONTRACT


def test_all_contracts_go_back_to_the_block_above_the_fork_and_the_head_that_proved_it_is_kept(
    db: Database,
) -> None:
    kept = tuple(Checkpoint(number, bytes32(f"block {number}")) for number in (40, 50, 60))
    other = Address(b"\x0f" * 20)
    for one in kept:
        take(db, blocks=(0, 60), head=one)
    begin(db, CHAIN, other, ReadUpTo(81, 30, 70, 600.0), None)
    done = rewind(db, 50)
    assert done.followed == Followed(1, (*kept[:2], Checkpoint(90, bytes32("head"))))
    assert queries.progress(db, *HERE) == ReadUpTo(51, -1, -1, 700.0)
    assert queries.progress(db, CHAIN, other) == ReadUpTo(51, 30, 50, 700.0)


def test_a_process_that_comes_later_changes_nothing_and_learns_what_was_done(db: Database) -> None:
    take(db, blocks=(0, 60))
    done = rewind(db, 50)
    before = dump(db)
    assert retention.rewind(db, CHAIN, 0, 30, BlockHead(90, 700, None)) == Rewound(followed=done.followed)
    assert dump(db) == before


def test_a_doubt_stays_until_the_fork_is_believed(db: Database) -> None:
    take(db, blocks=(0, 60))
    note_doubt(db, CHAIN, 5.0)
    take(db, blocks=(60, 70))
    assert queries.followed(db, CHAIN) == Followed(0, (), 5.0)
    assert rewind(db, 65).followed.doubted_since is None


@pytest.mark.parametrize("before", [State.INCLUDED, State.FINALIZED])
@pytest.mark.parametrize("fork", [19, 20])
def test_a_reply_above_the_fork_is_answered_again_with_nonce_and_bytes_before_all_others(
    db: Database, fork: int, before: State
) -> None:
    """Its request stands in block 10, the reply in block 20."""
    rid, old = walk(db, new_row(db), WAYS[before]), fork == 20
    walk(db, new_row(db, 2), WAYS[State.ANSWERED])
    told = ReplyReturned(rid, Kind.PUBLIC_DECRYPTION, State.ANSWERED, REORGANISED)
    assert rewind(db, fork).returned == (() if old else (told,))
    row = row_of(db, rid)
    assert (row.state, row.answer, row.reply.nonce, row.reply.raw) == (
        before if old else State.ANSWERED,
        ANSWER,
        1,
        b"raw",
    )
    due = queries.answered(db, CHAIN, db.wall(), 2).rows
    assert [one.rid for one in due] == ([2] if old else [rid, 2])


def test_a_reply_found_without_an_answer_begins_again_when_its_request_stands_above_the_fork(
    db: Database,
) -> None:
    rid = new_row(db)
    assert moves.move(db, "found_finalized", rid, reason="", block=None)
    rewind(db, 5)
    assert row_of(db, rid).state is State.PENDING


@pytest.mark.parametrize("state", list(State))
def test_what_stands_above_the_fork_is_off_chain_and_comes_back_with_its_block(
    db: Database, state: State
) -> None:
    rid = walk(db, new_row(db, 1, 30), WAYS[state])
    assert rewind(db, 25).gone == 1
    assert not row_of(db, rid).on_chain
    take(db, arrival(1, 31, fork="'"), blocks=(26, 40))
    assert row_of(db, rid).on_chain


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
    rewind(db, 50)
    assert [one.place[0] for one in inspecting.undecodable_logs(db, *HERE)] == [50]
