"""Fail-overs and a switch-over between two servers with streaming replication, under a load on two connectors.

Nothing may be lost and nothing sent twice, which ``replicated`` sees to.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from tests.real.postgres.replicated import Group, replicated

pytestmark = pytest.mark.rotating

BUSY = 60.0
"""Seconds that anything may take on a busy machine; undisturbed, requests are answered again four seconds after the death."""
WENT_BACK = "has lost commits"
LEFT_BEHIND = "was left behind by a fail-over: its timeline is 1, and timeline 2 was met already"


async def fail_over(made: Group, how: signal.Signals) -> None:
    """Have the primary die with commits that its standby lacks, promote that, and wait until requests are answered again."""
    pair = made.pair
    pair.hold_back()
    await made.answers_again(16)  # so that each process knows of commits that the standby lacks
    assert await pair.is_behind()
    had = pair.tick(pair.first)
    pair.first.stop(how)
    began = trio.current_time()
    pair.promote()
    assert pair.tick(pair.second) < had
    await made.answers_again()
    assert trio.current_time() - began < BUSY


async def test_a_primary_dies_with_commits_that_its_standby_lacks(
    tmp_path: Path, postgresql_programs: Path
) -> None:
    async with replicated(tmp_path, postgresql_programs) as made:
        await fail_over(made, signal.SIGKILL)
        await made.are_healthy()
        assert all(WENT_BACK in one.text() for one in made.processes)


async def test_an_old_primary_that_is_back_and_takes_writes_gets_none(
    tmp_path: Path, postgresql_programs: Path
) -> None:
    """It is the first one in the address; connections end, and a process begins, while it is there."""
    async with replicated(tmp_path, postgresql_programs) as made:
        pair, one = made.pair, made.processes[0]
        await fail_over(made, signal.SIGQUIT)
        await made.are_healthy()
        pair.first.start()
        kept = pair.tick(pair.first)
        made.cut(pair.second)
        await made.answers_again()
        await one.end(signal.SIGKILL)
        await one.start()
        await made.are_healthy()
        await made.answers_again()
        assert pair.tick(pair.first) == kept
        with trio.fail_after(BUSY):
            while not all(LEFT_BEHIND in one.text() for one in made.processes):
                await trio.sleep(0.2)


async def test_a_switchover_loses_nothing_and_starts_nothing_anew(
    tmp_path: Path, postgresql_programs: Path
) -> None:
    """The old primary ends well, and comes back as the standby of the new one."""
    async with replicated(tmp_path, postgresql_programs) as made:
        pair = made.pair
        pair.first.stop(signal.SIGINT)
        began = trio.current_time()
        pair.promote()
        await made.answers_again()
        assert trio.current_time() - began < BUSY
        pair.follow()
        await made.answers_again()
        await made.are_healthy()
        assert pair.first.run("SELECT pg_is_in_recovery()") == "t"
    assert not [one.name for one in made.processes if WENT_BACK in one.text() or LEFT_BEHIND in one.text()]
