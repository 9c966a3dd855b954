"""The transaction manager over the real journal."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio

from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.journal import queries, recording
from kmsconn.journal.database import Binding
from kmsconn.journal.journal import Journal, open_journal
from kmsconn.journal.recording import Arrival, Read
from kmsconn.model.life import Answer, State
from kmsconn.model.requests import Kind
from kmsconn.replies.manager import run_txmanager
from kmsconn.transport.ports import offload_inline
from tests.unit.journal.samples import keep
from tests.unit.replies.world import CHAIN_ID, CONTRACT, KEY, World, calldata, digest_of, until, wall

COUNT = 300


@pytest.mark.slow
async def test_answers_travel_through_the_real_journal_to_replied(tmp_path: Path) -> None:
    world = World()
    binding = Binding("fhevm", CHAIN_ID, CHAIN_ID, CONTRACT, KEY.address)
    async with open_journal(tmp_path / "j.db", binding, offload_inline, wall, synchronous="OFF") as journal:
        rids = await _answered(world, journal)
        manager = attrs.evolve(world.manager(), journal=journal)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.chain.run)
            nursery.start_soon(run_txmanager, manager)
            await until(lambda: len(world.ours()) == COUNT)
            await trio.sleep(20)
            nursery.cancel_scope.cancel()
        states = {row.state for rid in rids if (row := await journal.run(queries.row, rid)) is not None}
    assert states == {State.FINALIZED}
    assert sorted(world.sent()) == list(range(COUNT))


async def _answered(world: World, journal: Journal) -> list[int]:
    """Record and answer ``COUNT`` requests."""
    logs = [Log(CONTRACT, (bytes(32),), b"", 0, bytes(32), bytes(32), n) for n in range(COUNT)]
    arrivals = [Arrival(n + 1, Kind.PUBLIC_DECRYPTION, digest_of(n + 1), log) for n, log in enumerate(logs)]
    read = Read(CHAIN_ID, CONTRACT, (0, 0), arrivals, (), 1, None, wall(), wall(), 3600.0)
    recorded = await journal.run(recording.record, read)
    for n in range(1, COUNT + 1):
        world.chain.evm.set_up(CONTRACT, lambda frame, n=n: frame.write(digest_of(n), "request", n))
    for (rid, _), arrival in zip(recorded.new, arrivals, strict=True):
        await journal.run(keep, rid, Answer(calldata(arrival.id), Address(bytes(20))), wall())
    return [rid for rid, _ in recorded.new]
