"""The journal with real threads and real fsync: many callers at once, two processes at one file, and one that is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from kmsconn.errors import StartRefused
from kmsconn.journal import moves, queries, recording
from kmsconn.journal.journal import Journal, open_journal
from kmsconn.model.life import State
from kmsconn.transport.ports import offload_to_threads
from tests.unit.journal.samples import BINDING, CHAIN, KIND, arrival, keep, opened, read_of, signing

CALLERS = 64


def wall() -> float:
    return 1000.0


async def one_life(journal: Journal, number: int) -> None:
    seen = read_of(arrival(number, number), blocks=(number, number))
    ((rid, _),) = (await journal.run(recording.record, seen)).new
    assert await journal.run(keep, rid)
    assert await journal.run_each(moves.sign, [{"signing": signing(rid, number)}]) == [True]
    assert await journal.run_each(moves.move, [{"rid": rid, "block": number}], transition="confirm") == [True]
    assert await journal.run_each(moves.move, [{"rid": rid, "block": number}], transition="finalize") == [
        True
    ]


async def test_many_lives_at_once_end_well_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with (
        open_journal(path, BINDING, offload_to_threads, wall) as journal,
        trio.open_nursery() as nursery,
    ):
        for number in range(1, CALLERS + 1):
            nursery.start_soon(one_life, journal, number)
    async with open_journal(path, BINDING, offload_to_threads, wall) as journal:
        assert (await journal.run(queries.counts, 1000.0)).states == {(KIND, State.FINALIZED): CALLERS}
        assert await journal.run(queries.signed, CHAIN) == ()


async def test_callers_cancelled_among_threads_leave_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with open_journal(path, BINDING, offload_to_threads, wall) as journal:
        for number in range(1, 20):
            with trio.move_on_after(0.0002 * number):
                await one_life(journal, number)
    db = opened(path)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


HOLD = """
import sys, time
from pathlib import Path
from kmsconn.journal.sqlite import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


async def test_a_journal_held_by_another_process_is_refused_until_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    holder = await trio.lowlevel.open_process([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert (await holder.stdout.receive_some()).startswith(b"held")
        with pytest.raises(StartRefused, match="in use"):
            async with open_journal(path, BINDING, offload_to_threads, wall):
                pass
    finally:
        holder.kill()
        await holder.wait()
    async with open_journal(path, BINDING, offload_to_threads, wall):
        pass


LIVE = """
import sys, time, trio
from pathlib import Path
from kmsconn.journal.journal import open_journal
from kmsconn.transport.ports import offload_to_threads
from tests.real.test_journal_threads import one_life
from tests.unit.journal.samples import BINDING
async def main():
    async with open_journal(Path(sys.argv[1]), BINDING, offload_to_threads, time.time) as journal:
        async def lives(first):
            for number in range(first, 10**9, 8):
                await one_life(journal, number)
                print(number, flush=True)
        async with trio.open_nursery() as nursery:
            for first in range(1, 9):
                nursery.start_soon(lives, first)
trio.run(main)
"""


async def test_a_process_killed_at_work_forgets_no_signature_it_confirmed(tmp_path: Path) -> None:
    path, said = tmp_path / "journal.db", b""
    worker = await trio.lowlevel.open_process([sys.executable, "-c", LIVE, str(path)], stdout=subprocess.PIPE)
    try:
        assert worker.stdout is not None
        while said.count(b"\n") < 100:
            said += await worker.stdout.receive_some()
    finally:
        worker.kill()
        await worker.wait()
    said += b"".join([chunk async for chunk in worker.stdout])
    confirmed = {int(line) for line in said.split(b"\n")[:-1]}
    db = opened(path)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    kept = db.execute("SELECT id FROM request WHERE state IN ('signed', 'included', 'finalized')").fetchall()
    db.close()
    assert confirmed <= {int.from_bytes(id_, "big") for (id_,) in kept}
