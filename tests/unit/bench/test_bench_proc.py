"""What the kernel says about processes is read as it is written, and trees are whole."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.proc import PAGE, TICK, Stat, descendants, look, look_at_machine, parse_busy, parse_stat

NUMBERS = "S 7 1 1 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 3 0 5000 1000000 123 18446744073709551615"


def stat(pid: int, parent: int) -> Stat:
    return Stat(pid, parent, 0.0, 0)


@pytest.mark.parametrize(("roots", "whole"), [([5], {5, 6, 7}), ([6, 8], {6, 7, 8, 9}), ([99], set())])
def test_descendants_are_children_and_theirs(roots: list[int], whole: set[int]) -> None:
    stats = [stat(1, 0), stat(5, 1), stat(6, 5), stat(7, 6), stat(8, 1), stat(9, 8)]
    assert {one.pid for one in descendants(roots, stats)} == whole


def test_cpu_time_is_user_and_system_with_that_of_ended_children() -> None:
    found = parse_stat(f"42 (python) {NUMBERS}")
    assert found.cpu == (11 + 22 + 33 + 44) * TICK
    assert (found.pid, found.parent, found.resident) == (42, 7, 123 * PAGE)
    assert parse_stat(f"42 (a) S (b c) {NUMBERS}") == found, "a name may hold blanks and parentheses"


def test_processes_are_looked_at_each_for_itself_and_of_one_that_is_gone_nothing_is_seen() -> None:
    found, gone = look([os.getpid()], [2**22 + 1])
    assert found.resident > 1_000_000
    assert found.descriptors >= 3
    # it may have children: servers that other tests have started
    assert 0 < found.each[os.getpid()] <= found.cpu == pytest.approx(sum(found.each.values()))
    assert look_at_machine().cpu > found.cpu
    assert (gone.cpu, gone.resident, gone.descriptors) == (0, 0, 0)


def test_a_child_counts_with_its_parent() -> None:
    alone = look([os.getpid()])[0].resident
    loud = "print(flush=True); input()"
    with subprocess.Popen(  # noqa: S603 - this interpreter
        [sys.executable, "-c", loud], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()  # a child that was just forked has nothing of its own
        together = look([os.getpid()])[0].resident
        child.communicate(b"\n")
    assert together > alone


def test_a_machine_is_busy_unless_it_is_idle_or_waits_for_a_disk() -> None:
    assert parse_busy("cpu  1 2 4 1000 1000 8 16 32 1000 1000\ncpu0 1 1 1 1 1 1 1 1 1 1\n") == 63 * TICK
