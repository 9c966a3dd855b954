"""Neighbours on loopback sockets under a load, with the configuration file of the connector that belongs to them. Prints nothing."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import attrs
import trio

from kmsconn.emulator.config_file import journal_beside, write_config
from kmsconn.emulator.load import Load, run_load
from kmsconn.emulator.neighbourhood import Neighbourhood
from kmsconn.emulator.oracle import Oracle
from kmsconn.emulator.traffic import Traffic

LOOPBACK = "127.0.0.1"


@attrs.frozen
class Plan:
    """What is emulated. ``computing`` in seconds for each job of a Core; ``size`` in bytes for each ciphertext."""

    config: Path
    load: Load
    size: int = 1024
    seed: int = 0
    shards: int = 1
    computing: float = 0.0


@attrs.frozen
class Emulation:
    """One emulation: its neighbours, its users, and the oracle that judges, at any time, what became of the requests."""

    plan: Plan
    neighbours: Neighbourhood
    traffic: Traffic
    oracle: Oracle

    @classmethod
    def of(cls, plan: Plan) -> Emulation:
        """Make everything of a plan; nothing listens yet."""
        neighbours = Neighbourhood.make(time.time, shards=plan.shards, computing=plan.computing, seed=plan.seed)
        traffic = Traffic(neighbours, Random(plan.seed), size=plan.size)
        oracle = Oracle(neighbours.gateway, neighbours.decryption.address, neighbours.sender.address)
        return cls(plan, neighbours, traffic, oracle)

    async def run(self) -> None:
        """Serve, write the configuration file and put on the load, until that is over.

        Raises ConfigError when the file cannot be written, as a group. Cancellation: at any time; ``oracle`` keeps what it saw.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(self.neighbours.serve_on_sockets)
            monitoring = f"{LOOPBACK}:{await _free_port()}"
            journal = journal_beside(self.plan.config)
            write_config(self.plan.config, self.neighbours.settings(journal, monitoring_endpoint=monitoring))
            await run_load(self.plan.load, self.traffic, self.oracle)
            nursery.cancel_scope.cancel()


async def _free_port() -> int:
    """Return a port that was free a moment ago; the connector binds it later."""
    with trio.socket.socket() as probe:
        await probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port
