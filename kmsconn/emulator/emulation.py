"""Neighbours on loopback sockets under a load, with the configuration file of the connector that belongs to them. Prints nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Never

import attrs
import trio

from kmsconn.emulator.config_file import journal_beside, write_config
from kmsconn.emulator.load import Load, run_load
from kmsconn.emulator.neighbourhood import Neighbourhood
from kmsconn.emulator.oracle import Oracle, Verdict
from kmsconn.emulator.traffic import Traffic

LOOPBACK = "127.0.0.1"
PROGRESS = 1.0
"""Seconds between looks at how far it is."""
OnProgress = Callable[[Verdict], None]


@attrs.frozen
class Plan:
    """What is emulated. ``computing`` in seconds for each job of a Core; ``size`` in bytes for each ciphertext."""

    config: Path
    load: Load
    size: int = 1024
    seed: int = 0
    shards: int = 1
    computing: float = 0.0


async def emulate(plan: Plan, on_progress: OnProgress) -> Verdict:
    """Serve until the load is over and return what the chain shows then.

    Raises ConfigError when the configuration file cannot be written, and what a neighbour's own fault raised, as a group.
    Cancellation: at any time; for an early end that still has a verdict cancel a scope around it and look at ``on_progress``.
    """
    neighbours = Neighbourhood.make(time.time, shards=plan.shards, computing=plan.computing, seed=plan.seed)
    oracle = Oracle(neighbours.gateway, neighbours.decryption.address, neighbours.sender.address)
    async with trio.open_nursery() as nursery:
        await nursery.start(neighbours.serve_on_sockets)
        monitoring = f"{LOOPBACK}:{await _free_port()}"
        settings = neighbours.settings(journal_beside(plan.config), monitoring_endpoint=monitoring)
        write_config(plan.config, settings)
        nursery.start_soon(_report, oracle, on_progress)
        await run_load(plan.load, Traffic(neighbours, Random(plan.seed), size=plan.size), oracle)
        nursery.cancel_scope.cancel()
    return oracle.verdict()


async def _report(oracle: Oracle, on_progress: OnProgress) -> Never:
    while True:
        on_progress(oracle.verdict())
        await trio.sleep(PROGRESS)


async def _free_port() -> int:
    """Return a port that was free a moment ago; the connector binds it later."""
    with trio.socket.socket() as probe:
        await probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port
