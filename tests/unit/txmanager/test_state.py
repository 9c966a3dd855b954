"""What the state of a transaction manager remembers beside its rows ends with them."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.model.life import State
from kmsconn.txmanager.moving import ReplyMoves
from kmsconn.txmanager.state import TxState
from tests.unit.txmanager.world import World


@pytest.mark.parametrize("end", ["reject", "finish"])
async def test_nothing_is_remembered_of_a_reply_that_was_returned_and_ended(
    end: str, autojump_clock: Any
) -> None:
    world = World()
    state = TxState.of(world.manager())
    moves = ReplyMoves(state)
    world.request(1)
    row = world.journal.rows[1]
    track = state.track(attrs.evolve(row, state=State.SIGNED, nonce=0, raw=b"raw", reply_hash=bytes(32)))
    state.least_gas[row.rid] = 1
    await moves.release(track, "status 0")
    assert (row.rid in state.reusable, row.rid in moves._returned) == (True, True)
    await getattr(moves, end)(state.track(row), "never")
    assert (state.reusable, moves._returned, state.least_gas) == ({}, {}, {})
