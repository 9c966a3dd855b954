"""Four connectors with a Core each serve one contract that needs three: what each does, and what they reach together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
import trio

from kmsconn.connector.connector import Connector, open_connector
from kmsconn.emulator.contracts.decryption import BASE
from kmsconn.emulator.core_faults import FailingCore, HangingCore
from kmsconn.emulator.dependencies import FHEVM, sender_of
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.ground_truth import GroundTruth
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.traffic import Traffic
from kmsconn.ethereum.addresses import Address
from kmsconn.protocols.queries import mapping_slot
from kmsconn.testing.killable import KillablePorts, Life
from kmsconn.transport.ports import Ports
from tests.faults.scene import BEGIN, MOMENTS

MEMBERS = 4
FORMS = ("public", "direct", "unified")


@attrs.define(eq=False)
class Committee:
    """Four nodes at one contract."""

    dependencies: FhevmDependencies
    network: MemoryNetwork
    traffic: Traffic
    folder: Path

    def ports(self) -> Ports:
        return KillablePorts(Life(), self.network, lambda: BEGIN + trio.current_time(), Random(0)).ports()

    def open(self, member: int) -> Any:
        settings = self.dependencies.settings(self.folder / f"journal-{member}.db", member, reorg_window=4.0)
        return open_connector(settings, ports=self.ports(), on_event=lambda _: None)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[list[Connector]]:
        """Run four connectors while the block lasts, then cancel them."""
        with trio.CancelScope() as scope:
            async with AsyncExitStack() as stack:
                yield [await stack.enter_async_context(self.open(member)) for member in range(MEMBERS)]
                scope.cancel()

    def ground_truth(self, member: int) -> GroundTruth:
        """Return what the chain says of one member."""
        address = self.dependencies.decryption.address
        ground_truth = GroundTruth(self.dependencies.gateway, address, sender_of(member).address)
        ground_truth.read()
        return ground_truth

    async def wait_answered(self, members: range) -> None:
        """Return when each of these has answered every request there is."""
        with trio.fail_after(MOMENTS):
            while not all(self._has_all(member) for member in members):
                await trio.sleep(1)

    def _has_all(self, member: int) -> bool:
        said = self.ground_truth(member).verdict()
        return 0 < said.emitted == said.answered

    def is_done(self, identifier: int) -> bool:
        """Tell whether the contract has consensus, or enough shares."""
        done = mapping_slot(BASE, identifier)
        return bool(self.dependencies.gateway.evm.state.get((self.dependencies.decryption.address, done), 0))

    def senders(self, identifier: int) -> list[Address]:
        """Return who has answered a request, once each time."""
        blocks = self.dependencies.gateway.history.blocks_with_logs(0, self.dependencies.gateway.head.number)
        return [
            mined.transaction.sender
            for block in blocks
            for mined in block.mined
            if FHEVM.replied(mined.transaction.data) == identifier and mined.outcome.status
        ]


@asynccontextmanager
async def open_committee(folder: Path) -> AsyncIterator[Committee]:
    dependencies = FhevmDependencies.make(
        lambda: BEGIN + trio.current_time(), block_time=1.0, computing=0.1, members=MEMBERS
    )
    async with dependencies.run_in_memory() as network:
        yield Committee(dependencies, network, Traffic(dependencies, Random(0)), folder)


@pytest.fixture
async def committee(tmp_path: Path) -> AsyncIterator[Committee]:
    async with open_committee(tmp_path) as committee:
        yield committee


async def test_each_of_four_nodes_answers_each_request_once(committee: Committee) -> None:
    async with committee.connected():
        for form in FORMS:
            committee.traffic.forms[form]()
        await committee.wait_answered(range(MEMBERS))
        ids = list(committee.ground_truth(0).traces)
        assert len(ids) == len(FORMS)
        for identifier in ids:
            senders = committee.senders(identifier)
            assert sorted(senders) == sorted(sender_of(member).address for member in range(MEMBERS))
            assert committee.is_done(identifier)
        assert all(committee.ground_truth(member).verdict().well for member in range(MEMBERS))


async def test_with_one_core_down_three_answer_and_reach_consensus(committee: Committee) -> None:
    committee.dependencies.others[-1].strike(HangingCore())
    async with committee.connected():
        for form in FORMS:
            committee.traffic.forms[form]()
        await committee.wait_answered(range(MEMBERS - 1))
        for identifier in committee.ground_truth(0).traces:
            assert len(set(committee.senders(identifier))) == MEMBERS - 1
            assert committee.is_done(identifier)
        assert committee.ground_truth(MEMBERS - 1).verdict().answered == 0


async def test_the_fourth_node_answers_late_once_its_core_is_back(committee: Committee) -> None:
    """What has consensus already is answered all the same: the contract takes it, and each node's record stays complete."""
    late = committee.dependencies.others[-1]
    late.strike(FailingCore(code="UNAVAILABLE"))
    async with committee.connected():
        committee.traffic.forms["public"]()
        await committee.wait_answered(range(MEMBERS - 1))
        await trio.sleep(30)
        late.heal()
        await committee.wait_answered(range(MEMBERS))
        (identifier,) = committee.ground_truth(0).traces
        assert len(committee.senders(identifier)) == MEMBERS
