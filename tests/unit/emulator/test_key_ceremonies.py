"""The ceremonies of the emulated owner do not wait for ever for a node that was down."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.key_ceremonies import KEY, LATE_BLOCKS, KeyCeremonies


def new_owner() -> KeyCeremonies:
    dependencies = FhevmDependencies.make(trio.current_time, block_time=1.0, members=4)
    return KeyCeremonies(dependencies, dependencies.members)


async def test_a_core_that_never_begins_is_waited_for_some_blocks(
    autojump_clock: MockClock,
) -> None:
    owner = new_owner()
    async with trio.open_nursery() as nursery:
        await nursery.start(owner.dependencies.run)
        began = trio.current_time()
        await owner.until_at_work("key", KEY)
        waited = trio.current_time() - began
        nursery.cancel_scope.cancel()
    assert waited == pytest.approx(LATE_BLOCKS * owner.dependencies.ethereum.block_time)


async def test_nobody_waits_once_every_core_is_at_work(
    autojump_clock: MockClock,
) -> None:
    owner = new_owner()
    for core in (*owner.dependencies.cores, *owner.dependencies.others):
        core.core.management.jobs.generating = 1e6
        core.core.management.jobs.begin("key", KEY.to_bytes(32), bytes)
    with trio.fail_after(1):
        await owner.until_at_work("key", KEY)
