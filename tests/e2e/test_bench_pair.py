"""The benchmark's own client answers what the emulator asks, both in processes of their own. Nothing is measured."""

from __future__ import annotations

from pathlib import Path

import trio

from bench.connector import STRAIGHT, Recipe
from bench.offering import open_pair

PATIENCE = 90


async def test_the_straight_client_answers_every_request_once(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with open_pair(Recipe(STRAIGHT), tmp_path, size=64, computing=0.0) as pair:
            status = await pair.dependencies.get("/status")
            pair.look()
    assert (status["emitted"], status["answered"], status["doubled"]) == (20, 20, 0)
    assert pair.samples["connector"][0].resident > 0
