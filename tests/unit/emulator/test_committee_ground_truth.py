"""A load on a committee in memory: what the chain says of each node, and of how many requests enough nodes have answered."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing

from kmsconn.connector.connector import serve
from kmsconn.emulator.config_file import member_config
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.ground_truth import CommitteeGroundTruth
from kmsconn.emulator.load import STRAGGLERS_TIMEOUT, Load, run_load
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.traffic import Traffic
from kmsconn.testing.killable import KillablePorts, Life

BASE = 1_767_225_600.0
MEMBERS, REQUESTS = 4, 6


async def played(folder: Path, running: Sequence[int]) -> CommitteeGroundTruth:
    """Put six requests on four nodes of whom only these run, and return what the chain shows."""
    wall = lambda: BASE + trio.current_time()  # noqa: E731
    dependencies = FhevmDependencies.make(wall, members=MEMBERS)
    network = MemoryNetwork()
    dependencies.settle_in_memory(network)
    committee = CommitteeGroundTruth.of(dependencies, MEMBERS)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        await nursery.start(dependencies.run)
        for member in running:
            settings = dependencies.settings(folder / f"{member}.db", member)
            ports = KillablePorts(Life(), network, wall, Random(member)).ports()
            await nursery.start(partial(serve, settings, ports=ports, on_event=lambda _: None))
        await run_load(
            Load(2.0, REQUESTS / 2), Traffic(dependencies, Random(0)), committee, reply_timeout=20.0
        )
        nursery.cancel_scope.cancel()
    return committee


async def test_with_one_of_four_missing_every_request_finds_consensus(tmp_path: Path) -> None:
    """Three have answered everything, the fourth nothing; the load ends some seconds after the last consensus."""
    verdict = (await played(tmp_path, (0, 1, 2))).verdict()
    assert [node.answered for node in verdict.nodes] == [REQUESTS, REQUESTS, REQUESTS, 0]
    assert (verdict.emitted, verdict.consensus, verdict.well) == (REQUESTS, REQUESTS, True)
    assert trio.current_time() < REQUESTS / 2 + STRAGGLERS_TIMEOUT + 4


async def test_with_two_of_four_missing_no_request_finds_consensus(tmp_path: Path) -> None:
    verdict = (await played(tmp_path, (0, 3))).verdict()
    assert [node.answered for node in verdict.nodes] == [REQUESTS, 0, 0, REQUESTS]
    assert (verdict.consensus, verdict.well) == (0, False)


async def test_the_ciphertexts_of_a_request_stay_as_long_as_a_node_may_ask_for_them(tmp_path: Path) -> None:
    """The request counts as answered once the last node has answered it."""
    committee = await played(tmp_path, (0, 1, 2))
    sent = [trace.transaction_hash for trace in committee.nodes[0].traces.values()]
    traces = [committee.trace_of(one) for one in sent]
    assert [trace and trace.answer for trace in traces] == [None] * REQUESTS


@pytest.mark.parametrize(
    ("members", "names"),
    [(1, ["k.toml"]), (4, ["k-1.toml", "k-2.toml", "k-3.toml", "k-4.toml"])],
)
def test_each_member_has_a_file_of_its_own(members: int, names: list[str]) -> None:
    paths = [member_config(Path("k.toml"), member, members) for member in range(members)]
    assert paths == [Path(name) for name in names]


def test_a_committee_of_many_does_not_mix_up_its_cores() -> None:
    """The name of the eleventh begins with that of the second."""
    dependencies = FhevmDependencies.make(lambda: BASE, members=13)
    dependencies.settle_in_memory(MemoryNetwork())
    assert dependencies.core_endpoints(1) == ("http://member1:80",)
