"""A life cancelled at each of its steps in turn: what was confirmed is there, the file is whole and free, the life goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from kmsconn.journal import moves, recording
from kmsconn.journal.journal import Journal, open_journal
from kmsconn.model.life import State
from kmsconn.testing.endings import cancel_everywhere
from tests.unit.journal.samples import BINDING, arrival, keep, opened, read_of, row_of, signing

T = TypeVar("T")

WAY = [None, State.PENDING, State.ANSWERED, State.SIGNED, State.INCLUDED, State.FINALIZED]


async def restless(use: str, work: Callable[[], T]) -> T:
    """Run work inline with checkpoints before and after, so that a cancellation falls on either side."""
    await trio.lowlevel.checkpoint()
    value = work()
    with trio.CancelScope(shield=True):
        await trio.lowlevel.checkpoint()
    return value


def journal_at(path: Path) -> AbstractAsyncContextManager[Journal]:
    """Open a journal under restless conditions."""
    return open_journal(path, BINDING, restless, lambda: 1000.0, synchronous="OFF")


def steps_of(journal: Journal) -> dict[State, Callable[[], Awaitable[object]]]:
    """Return what takes a request into each state."""
    return {
        State.PENDING: lambda: journal.run(recording.record, read_of(arrival(1, 10))),
        State.ANSWERED: lambda: journal.run(keep, 1),
        State.SIGNED: lambda: journal.run_each(moves.sign, [{"signing": signing(1)}]),
        State.INCLUDED: lambda: journal.run_each(moves.move, [{"rid": 1, "block": 30}], transition="confirm"),
        State.FINALIZED: lambda: journal.run_each(
            moves.move, [{"rid": 1, "block": 30}], transition="finalize"
        ),
    }


async def live(path: Path, confirmed: list[State]) -> None:
    async with journal_at(path) as journal:
        for state, step in steps_of(journal).items():
            await step()
            confirmed.append(state)


def state_in(path: Path) -> State | None:
    """Read the row beside the port; this also shows that the lock is free."""
    db = opened(path)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    there = db.execute("SELECT count(*) FROM request").fetchone() == (1,)
    state = row_of(db, 1).state if there else None
    db.close()
    return state


async def test_a_life_cancelled_anywhere_is_whole_and_goes_on(tmp_path: Path) -> None:
    lives: list[tuple[Path, list[State]]] = []

    async def begun() -> None:
        lives.append((tmp_path / f"{len(lives)}.db", []))
        await live(*lives[-1])

    async def look() -> None:
        path, confirmed = lives[-1]
        # what was confirmed is there; of what was under way at most the next step
        assert state_in(path) in WAY[len(confirmed) : len(confirmed) + 2]
        await live(path, [])
        assert state_in(path) is State.FINALIZED

    assert await cancel_everywhere(begun, look) > 10  # opening, five operations, closing


@pytest.mark.parametrize("shielded", [False, True])
async def test_an_opening_that_is_cancelled_gives_the_lock_back(tmp_path: Path, shielded: bool) -> None:
    """Also where the work was done and only its result was lost."""

    async def offload(use: str, work: Callable[[], T]) -> T:
        with trio.CancelScope(shield=shielded):
            await trio.lowlevel.checkpoint()
            value = work()
        await trio.lowlevel.checkpoint()
        return value

    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_journal(tmp_path / "j.db", BINDING, offload, lambda: 0.0, synchronous="OFF"):
            pytest.fail("it was cancelled")
    opened(tmp_path / "j.db").close()
