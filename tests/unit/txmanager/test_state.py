"""What the state of a transaction manager remembers beside its rows ends with them."""

from __future__ import annotations

from typing import Any, Literal

import attrs
import pytest

from kmsconn.journal.values import RowReply
from kmsconn.model.life import State
from kmsconn.txmanager.moving import ReplyMoves
from kmsconn.txmanager.state import TxState
from tests.unit.txmanager.world import World


@pytest.mark.parametrize("end", ["reject", "finish"])
async def test_nothing_is_remembered_of_a_reply_that_was_returned_and_ended(
    end: Literal["reject", "finish"], autojump_clock: Any
) -> None:
    world = World()
    state = TxState.of(world.manager())
    moves = ReplyMoves(state)
    world.request(1)
    row = world.journal.rows[1]
    track = state.tracks.note(attrs.evolve(row, state=State.SIGNED, reply=RowReply(0, b"raw", bytes(32))))
    await moves.release(track, "status 0")
    assert state.tracks.histories[row.rid].returned == 1
    await moves.close(state.tracks.note(row), end, "never")
    assert (state.tracks.by_rid, state.tracks.histories) == ({}, {})
