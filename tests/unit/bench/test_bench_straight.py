"""The minimal client, against which the emulator's ceiling is measured, keeps up with what is offered."""

from __future__ import annotations

from pathlib import Path

import trio

from bench.straight import run
from kmsconn.emulator.ground_truth import ground_truth_of
from kmsconn.emulator.load import Load, run_load
from tests.unit.requests.few_components import few_components


async def test_the_minimal_client_replies_in_one_block(tmp_path: Path) -> None:
    """Several requests a block; replies sent in one batch wait for each other's blocks."""
    async with few_components(tmp_path, block_time=0.25) as few, trio.open_nursery() as nursery:
        truth = ground_truth_of(few.dependencies)
        nursery.start_soon(run, few.settings(), few.ports)
        await trio.sleep(1)
        await run_load(Load(40, seconds=1), few.traffic, truth)
        verdict = truth.verdict()
        assert verdict.well, verdict
        assert (verdict.p99 or 9.0) <= 0.5
        nursery.cancel_scope.cancel()
