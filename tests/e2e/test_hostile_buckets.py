"""How much memory a stranger's bucket takes from a ``kmsconn run``: the budget of ciphertexts and little else."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from bench.attacks import BUCKETS, MIB, hostile
from bench.connector import Recipe
from bench.offering import open_pair

PATIENCE = 180
EACH = 5.0
"""Seconds under each; with the cycles of errors a process had 600 MB after four."""
BUDGET = 64 * MIB
BESIDE = 225_000_000
"""Bytes beside the budget: the process, the one body that may exceed it, and a tenth of both for how the heap happens to lie."""
LOAD = {"rate": 4, "seconds": EACH, "reply_timeout": 0.1}


@pytest.mark.rotating
async def test_no_hostile_bucket_takes_more_than_the_budget(tmp_path: Path) -> None:
    """Reproduced: bodies without an end took 9.7 GB of a process whose budget was 128 MiB."""
    most = dict[str, int]()
    with trio.fail_after(PATIENCE):
        async with open_pair(
            Recipe(), tmp_path, size=1024, computing=0.0, written=f"ciphertext_budget = {BUDGET}\n"
        ) as pair:

            async def watch(name: str) -> None:
                while True:
                    pair.look()
                    most[name] = max(most.get(name, 0), pair.samples["connector"][-1].resident)
                    await trio.sleep(0.1)

            for name in BUCKETS:
                async with hostile(pair, name), trio.open_nursery() as nursery:
                    nursery.start_soon(watch, name)
                    await pair.dependencies.post("/load", LOAD)
                    nursery.cancel_scope.cancel()
    assert {name: most[name] for name in BUCKETS if most[name] > BUDGET + BESIDE} == {}
