"""What a Core remembers (kms-core-grpc.md, 5.5), and waiting in its process."""

from __future__ import annotations

import math

import pytest
import trio

from kmsconn.emulator.core_jobs import CoreJob, JobTable, RefusedCall, Uptime
from kmsconn.emulator.grpc_server import CutConnection
from tests.unit.emulator.core_worlds import public_id


def table(*ready_at: float, capacity: int = 4, kept: int = 2) -> JobTable[bytes]:
    """A table whose entries 1, 2, … are ready at these times."""
    made = JobTable[bytes](capacity, kept)
    for number, moment in enumerate(ready_at, start=1):
        made.add(public_id(number), CoreJob(moment, bytes), 0)
    return made


def test_an_id_is_found_again() -> None:
    found = table(1).get(public_id(1))
    assert found is not None
    assert found.ready_at == 1


def test_an_unknown_id_is_not_found() -> None:
    assert table(1).get(public_id(2)) is None


def test_an_id_is_taken_once() -> None:
    with pytest.raises(RefusedCall, match="ALREADY_EXISTS"):
        table(1).add(public_id(1), CoreJob(2, bytes), 0)


def test_pending_jobs_are_counted_as_time_goes_on() -> None:
    made = table(1, 2, math.inf)
    assert [made.pending(now) for now in (0, 1, 2, 1e9)] == [3, 2, 1, 1]


def test_a_full_table_forgets_its_oldest_finished_entry() -> None:
    made = table(9, 1, 1, 1)
    made.add(public_id(5), CoreJob(9, bytes), 5)
    assert made.get(public_id(1)) is not None
    assert made.get(public_id(2)) is None
    assert len(made) == 4


def test_a_full_table_with_too_few_finished_entries_refuses() -> None:
    made = table(1, 1, 9, 9)
    with pytest.raises(RefusedCall, match="ABORTED"):
        made.add(public_id(5), CoreJob(9, bytes), 5)
    assert len(made) == 4


def test_a_known_id_is_known_in_a_full_table_too() -> None:
    with pytest.raises(RefusedCall, match="ALREADY_EXISTS"):
        table(9, 9, 9, 9).check(public_id(4), 5)


def test_the_defaults_are_those_of_the_core() -> None:
    made: JobTable[bytes] = JobTable()
    assert (made.capacity, made.kept) == (10_000, 6_000)


async def test_a_wait_lasts_to_its_moment() -> None:
    began = trio.current_time()
    await Uptime().wait(lambda: began + 7)
    assert trio.current_time() == began + 7


async def test_a_moment_that_is_past_is_not_waited_for() -> None:
    began = trio.current_time()
    await Uptime().wait(lambda: began - 1)
    assert trio.current_time() == began


async def test_a_restart_cuts_those_who_wait() -> None:
    uptime = Uptime()

    async def wait() -> None:
        with pytest.raises(CutConnection):
            await uptime.wait(lambda: trio.current_time() + 100)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1)
        uptime.restart()
    assert (uptime.restarts, trio.current_time() < 100) == (1, True)


async def test_a_restart_before_the_wait_cuts_nobody() -> None:
    uptime = Uptime()
    uptime.restart()
    moment = trio.current_time() + 1
    await uptime.wait(lambda: moment)


async def test_a_moment_that_moved_is_looked_at_again() -> None:
    uptime, moments = Uptime(), [trio.current_time() + 100]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(uptime.wait, lambda: moments[0])
        await trio.sleep(2)
        moments[0] = trio.current_time()
        uptime.stir()
    assert trio.current_time() == moments[0]
