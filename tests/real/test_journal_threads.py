"""The journal with real threads and real fsync: many callers at once, and two processes at one file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from kmsconn.errors import StartRefused
from kmsconn.journal.sqlite import SqliteJournal, open_journal
from kmsconn.model.life import State
from kmsconn.net.offloading import offload_to_threads
from tests.unit.journal.samples import ANSWER, BINDING, CHAIN, KIND, arrival, opened, read_of

CALLERS = 64


def wall() -> float:
    return 1000.0


async def one_life(journal: SqliteJournal, number: int) -> None:
    seen = read_of(arrival(number, number), asked=journal.tick, blocks=(number, number))
    ((rid, _),) = (await journal.admit(seen)).new
    assert await journal.answer(rid, ANSWER, 1000.0)
    assert await journal.sign(rid, number, b"raw", b"hash")
    assert await journal.land(rid, number)
    assert await journal.bury(rid)


async def test_many_lives_at_once_end_well_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with (
        open_journal(path, BINDING, offload_to_threads, wall) as journal,
        trio.open_nursery() as nursery,
    ):
        for number in range(1, CALLERS + 1):
            nursery.start_soon(one_life, journal, number)
    async with open_journal(path, BINDING, offload_to_threads, wall) as journal:
        assert (await journal.counts(1000.0)).states == {(KIND, State.REPLIED): CALLERS}
        assert await journal.signed(CHAIN) == ()


async def test_callers_cancelled_among_threads_leave_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with open_journal(path, BINDING, offload_to_threads, wall) as journal:
        for number in range(1, 20):
            with trio.move_on_after(0.0002 * number):
                await one_life(journal, number)
    book = opened(path)
    assert book.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    book.close()


HOLD = """
import sys, time
from pathlib import Path
from kmsconn.journal.locking import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


async def test_a_journal_held_by_another_process_is_refused_until_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    holder = await trio.lowlevel.open_process([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert await holder.stdout.receive_some() == b"held\n"
        with pytest.raises(StartRefused, match="in use"):
            async with open_journal(path, BINDING, offload_to_threads, wall):
                pass
    finally:
        holder.kill()
        await holder.wait()
    async with open_journal(path, BINDING, offload_to_threads, wall):
        pass
