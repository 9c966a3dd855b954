"""Operations over a real file: opening, one whole life, restarts, kills, and what the journal refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from kmsconn.errors import NonceTaken
from kmsconn.journal import inspecting, moves, queries, recording
from kmsconn.journal.journal import Journal, open_journal
from kmsconn.journal.rows import Row
from kmsconn.model.life import State
from kmsconn.transport.ports import offload_inline
from tests.unit.journal.samples import BINDING, CHAIN, arrival, keep, opened, read_of, signing

T = TypeVar("T")


def wall() -> float:
    """Stand still: what is written is the same at each run."""
    return 7000.0


def journal_at(path: Path) -> AbstractAsyncContextManager[Journal]:
    """Open a journal without threads and without fsync."""
    return open_journal(path, BINDING, offload_inline, wall, synchronous="OFF")


async def record_one(journal: Journal, id_: int = 1, block: int = 10) -> int:
    recorded = await journal.run(recording.record, read_of(arrival(id_, block), blocks=(block, block)))
    return recorded.new[0][0]


async def row_of(journal: Journal, rid: int) -> Row:
    found = await journal.run(queries.row, rid)
    assert found is not None
    return found


async def answered_rows(journal: Journal, count: int) -> list[int]:
    rids = [await record_one(journal, id_, id_) for id_ in range(1, count + 1)]
    for rid in rids:
        await journal.run(keep, rid)
    return rids


async def test_of_several_signatures_a_taken_nonce_spoils_its_own_only(path: Path) -> None:
    async with journal_at(path) as journal:
        first, second, third = await answered_rows(journal, 3)
        done = await journal.run_each(
            moves.sign, [{"signing": signing(*one)} for one in ((first, 5), (second, 5), (third, 6), (99, 7))]
        )
        assert [isinstance(one, NonceTaken) or one for one in done] == [True, True, True, False]
        assert isinstance(done[1], NonceTaken)
        assert [(row.rid, row.reply.nonce) for row in await journal.run(queries.signed, CHAIN)] == [
            (first, 5),
            (third, 6),
        ]


async def test_several_are_one_commit(path: Path) -> None:
    commits: list[object] = []

    async def offload(use: str, work: Callable[[], T]) -> T:
        commits.append(work)
        return await offload_inline(use, work)

    async with open_journal(path, BINDING, offload, wall, synchronous="OFF") as journal:
        rids = await answered_rows(journal, 40)
        before = len(commits)
        await journal.run_each(moves.sign, [{"signing": signing(rid, rid)} for rid in rids])
        assert len(commits) - before == 1
        await journal.run(moves.move_all, "confirm", [(30, rid) for rid in rids])
        await journal.run(moves.move_all, "finalize", [(30, rid) for rid in rids])
        assert await journal.run_each(moves.sign, []) == []
        assert len(commits) - before <= 3  # in a file both moves ride on the next one


async def test_replies_are_confirmed_together_each_in_its_block(path: Path) -> None:
    """One that holds no nonce is left where it is, and each that moves has a line of its history that names its block."""
    async with journal_at(path) as journal:
        first, second, third = await answered_rows(journal, 3)
        await journal.run_each(moves.sign, [{"signing": signing(rid, rid)} for rid in (first, second)])
        moved = await journal.run(moves.move_all, "confirm", [(31, second), (30, first), (31, third)])
        rows = [await row_of(journal, rid) for rid in (first, second, third)]
        told = [(await journal.run(inspecting.history, rid))[-1] for rid in (first, second)]
        counts = (await journal.run(queries.counts, 0.0)).states
    assert moved == {first, second}
    assert [(row.state, row.reply.included_block) for row in rows] == [
        (State.INCLUDED, 30),
        (State.INCLUDED, 31),
        (State.ANSWERED, None),
    ]
    assert [(one.step, one.detail) for one in told] == [("confirm", "block 30"), ("confirm", "block 31")]
    assert sorted(counts.values()) == [1, 2]


async def test_an_id_or_nonce_too_large_costs_its_caller_only(path: Path) -> None:
    async with journal_at(path) as journal:
        with pytest.raises(OverflowError):
            await record_one(journal, 2**256)
        rid = await record_one(journal, 2**256 - 1)
        await journal.run(keep, rid)
        with pytest.raises(OverflowError):
            await journal.run_each(moves.sign, [{"signing": signing(rid, 2**63)}])
        assert (await row_of(journal, rid)).state == State.ANSWERED


async def test_an_error_of_the_body_comes_out_and_the_lock_is_given_back(path: Path) -> None:
    with pytest.RaisesGroup(KeyError):
        async with journal_at(path):
            raise KeyError
    opened(path).close()


async def test_an_offload_that_dies_does_not_keep_the_lock(path: Path) -> None:
    """The thread pool may be gone at the very end; the file is closed all the same."""
    broken = False

    async def offload(use: str, work: Callable[[], T]) -> T:
        if broken:
            raise OSError("no threads")
        return await offload_inline(use, work)

    with pytest.raises(OSError, match="no threads"):
        async with open_journal(path, BINDING, offload, wall, synchronous="OFF"):
            broken = True
    opened(path).close()


async def test_an_offload_that_hangs_does_not_keep_the_lock(path: Path) -> None:
    """A killed world lets nothing happen any more, and yet the next start must find the file free."""
    killed = False

    async def offload(use: str, work: Callable[[], T]) -> T:
        if killed:
            await trio.sleep_forever()
        return await offload_inline(use, work)

    async with open_journal(path, BINDING, offload, wall, synchronous="OFF") as journal:
        await record_one(journal)
        killed = True
        with trio.move_on_after(1):
            await record_one(journal, 2, 20)
    db = opened(path)
    assert db.execute("SELECT count(*) FROM request").fetchone() == (1,)
    db.close()


async def life(journal: Journal) -> None:
    """Take a request through all durable points; may be done again after any of them."""
    rid = 1
    if await journal.run(queries.row, rid) is None:
        await record_one(journal)
    row = await row_of(journal, rid)
    if row.state is State.PENDING:
        await journal.run(keep, rid)
    if row.state in {State.PENDING, State.ANSWERED}:
        await journal.run_each(moves.sign, [{"signing": signing(rid, 0)}])
    if row.state in {State.PENDING, State.ANSWERED, State.SIGNED}:
        await journal.run_each(moves.move, [{"rid": rid, "block": 30}], transition="confirm")
    await journal.run_each(moves.move, [{"rid": rid, "block": 30}], transition="finalize")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.sqlite
async def test_a_copy_taken_at_any_moment_goes_on(path: Path, late: bool) -> None:
    """What a power cut leaves is such a copy: before or after each commit the files alone say how it goes on."""
    copies: list[Path] = []

    async def offload(use: str, work: Callable[[], T]) -> T:
        value = await offload_inline(use, work) if late else None
        copy = path.parent / f"copy{len(copies)}"
        shutil.copytree(path.parent, copy, ignore=shutil.ignore_patterns("copy*", "*.lock"))
        copies.append(copy)
        return value if late else await offload_inline(use, work)  # type: ignore[return-value]

    async with open_journal(path, BINDING, offload, wall, synchronous="OFF") as journal:
        await life(journal)
    assert len(copies) >= 6
    for copy in copies:
        async with journal_at(copy / path.name) as journal:
            await life(journal)
            assert (await row_of(journal, 1)).state == State.FINALIZED
