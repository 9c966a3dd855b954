"""What is counted as the work of a connector: its tasks, and the code of each package."""

from __future__ import annotations

import sys

import attrs
import trio

from bench.instructions import InstructionCount, place_of
from kmsconn.model.requests import Request
from kmsconn.transport.waiting import together

TURNS, REPEATS = 1000, 8


async def busy() -> None:
    for _ in range(TURNS):
        pass
    await trio.lowlevel.checkpoint()


async def root() -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(REPEATS):  # the interpreter tells of instructions from the second or third time on
            nursery.start_soon(busy)


def measured(*, begun: bool) -> InstructionCount:
    """Count while tasks below the root are busy, and another one that is not below it."""
    count = InstructionCount(root)

    async def both() -> None:
        before = sys.gettrace()  # of a coverage measurement
        if begun:
            count.begin()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(root)
            nursery.start_soon(busy)
        sys.settrace(before)

    trio.run(both, instruments=[count])
    return count


def test_the_tasks_below_the_root_are_counted() -> None:
    count = measured(begun=True)
    assert count.calls["busy"] == 2 * REPEATS  # each goes on once
    assert count.instructions[busy.__code__] > TURNS


def test_nothing_is_counted_before_it_begins() -> None:
    count = measured(begun=False)
    assert (count.steps, count.instructions.total()) == (0, 0)


def test_code_belongs_to_its_package_also_where_attrs_made_it() -> None:
    made = (together, Request.__init__, trio.sleep, attrs.evolve)
    assert [place_of(one.__code__) for one in made] == [
        "kmsconn/transport",
        "attrs of kmsconn/model",
        "trio",
        "attr",
    ]
