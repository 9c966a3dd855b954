"""Four connectors with a Core each serve the contracts of the first generation, of whom one may fail: who answers, and what comes of it."""

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
from kmsconn.emulator.core_faults import FailingCore, HangingCore
from kmsconn.emulator.dependencies import key_for, sender_of
from kmsconn.emulator.httpz.dependencies import PARAMETERS, HttpzDependencies
from kmsconn.emulator.httpz.traffic import SECRET, FirstTraffic
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.ethereum.addresses import Address
from kmsconn.protocols import bincode
from kmsconn.protocols.httpz_rc7 import contracts
from kmsconn.testing.killable import KillablePorts, Life
from kmsconn.transport.ports import Ports
from tests.faults.scene import BEGIN, MOMENTS
from tests.opening import open_httpz_share, value_of_share

pytestmark = pytest.mark.sampled

MEMBERS, NEEDED, SHARES = 4, 2, 3


@attrs.define(eq=False)
class Committee:
    """Four nodes at one contract, one of whom may fail."""

    dependencies: HttpzDependencies
    network: MemoryNetwork
    traffic: FirstTraffic
    folder: Path

    def ports(self, life: Life | None = None) -> Ports:
        return KillablePorts(
            life or Life(), self.network, lambda: BEGIN + trio.current_time(), Random(0)
        ).ports()

    def open(self, member: int, life: Life | None = None) -> Any:
        journal = self.folder / f"journal-{member}.db"
        settings = self.dependencies.settings(journal, member, reorg_window=4.0)
        return open_connector(settings, ports=self.ports(life), on_event=lambda _: None)

    @asynccontextmanager
    async def connected(self, *members: int) -> AsyncIterator[list[Connector]]:
        """Run these connectors, all if none is named, while the block lasts, then cancel them."""
        with trio.CancelScope() as scope:
            async with AsyncExitStack() as stack:
                who = members or range(MEMBERS)
                yield [await stack.enter_async_context(self.open(member)) for member in who]
                scope.cancel()

    async def ask(self, form: str) -> None:
        """Ask for one decryption and wait for its block."""
        sent = self.traffic.forms[form]()
        while self.dependencies.gateway.history.find(sent) is None:
            await self.dependencies.gateway.wait_change()

    def events(self, name: str) -> list[tuple[Any, ...]]:
        """Return what a contract has announced under a name, oldest first."""
        contract = contracts.KEY_MANAGER if "gen" in name else contracts.DECRYPTION_MANAGER
        event = contract.event(name)
        blocks = self.dependencies.gateway.history.blocks_with_logs(0, self.dependencies.gateway.head.number)
        logs = (log for block in blocks for mined in block.mined for log in mined.logs)
        return [event.decode(log.topics, log.data) for log in logs if log.topics[0] == event.topic0]

    def senders(self, function: str, identifier: int = 1) -> list[Address]:
        """Return whose answers to a request were taken, once each time."""
        contract = contracts.KEY_MANAGER if "gen" in function else contracts.DECRYPTION_MANAGER
        start = contract.function(function).selector + identifier.to_bytes(32)
        head = self.dependencies.gateway.head.number
        blocks = [self.dependencies.gateway.block(number) for number in range(head + 1)]
        mined = [one for block in blocks if block is not None for one in block.mined]
        return [
            one.transaction.sender
            for one in mined
            if one.outcome.status and one.transaction.data.startswith(start)
        ]

    async def wait_answers(self, function: str, count: int, identifier: int = 1) -> list[Address]:
        """Return who has answered once so many have, and a while after that."""
        with trio.fail_after(MOMENTS):
            while len(self.senders(function, identifier)) < count:
                await trio.sleep(1)
        await trio.sleep(10)
        return self.senders(function, identifier)


@asynccontextmanager
async def open_committee(folder: Path) -> AsyncIterator[Committee]:
    dependencies = HttpzDependencies.make(
        lambda: BEGIN + trio.current_time(), block_time=1.0, computing=0.1, members=MEMBERS
    )
    dependencies.gateway.finality.depth = 4
    async with dependencies.run_in_memory() as network:
        yield Committee(dependencies, network, FirstTraffic(dependencies, Random(0)), folder)


ALL = sorted(sender_of(member).address for member in range(MEMBERS))


@pytest.fixture
async def committee(tmp_path: Path) -> AsyncIterator[Committee]:
    async with open_committee(tmp_path) as committee:
        yield committee


async def test_four_answers_to_a_public_request_are_one_event_of_two_signatures(committee: Committee) -> None:
    async with committee.connected():
        await committee.ask("public")
        assert sorted(await committee.wait_answers("publicDecryptionResponse", MEMBERS)) == ALL
        ((identifier, _, signatures),) = committee.events("PublicDecryptionResponse")
        assert (identifier, len(set(signatures))) == (1, NEEDED)


@pytest.mark.parametrize("form", ["user", "delegated"])
async def test_four_answers_to_a_user_are_one_event_of_three_shares_that_open_to_one_value(
    committee: Committee, form: str
) -> None:
    """With shares counted, which the real contract does not do (13.16)."""
    async with committee.connected():
        await committee.ask(form)
        assert sorted(await committee.wait_answers("userDecryptionResponse", MEMBERS)) == ALL
        ((_, shares, signatures),) = committee.events("UserDecryptionResponse")
        assert (len(set(shares)), len(set(signatures))) == (SHARES, SHARES)
        opened = [values_in(share) for share in shares]
        assert [set(values) for values in zip(*opened, strict=True)] == [
            {value} for value in committee.dependencies.plaintexts.values()
        ]


def values_in(image: bytes) -> list[int]:
    """Open a node's answer with the user's key."""
    payload = bincode.decode(image, packed=False)
    user = key_for("user").address
    return [
        value_of_share(
            open_httpz_share(SECRET, one.signcrypted, client=user, vk=payload.verification_key).plaintext
        )
        for one in payload.shares
    ]


async def test_with_one_core_down_three_answer_and_that_is_enough(committee: Committee) -> None:
    committee.dependencies.others[-1].strike(HangingCore())
    async with committee.connected():
        for form, function in (
            ("public", "publicDecryptionResponse"),
            ("user", "userDecryptionResponse"),
        ):
            await committee.ask(form)
            assert len(set(await committee.wait_answers(function, MEMBERS - 1))) == MEMBERS - 1
    assert len(committee.events("PublicDecryptionResponse")) == 1
    assert len(committee.events("UserDecryptionResponse")) == 1


async def test_the_fourth_node_answers_late_without_a_second_event(committee: Committee) -> None:
    late = committee.dependencies.others[-1]
    late.strike(FailingCore(code="UNAVAILABLE"))
    async with committee.connected():
        await committee.ask("public")
        await committee.wait_answers("publicDecryptionResponse", MEMBERS - 1)
        late.heal()
        assert sorted(await committee.wait_answers("publicDecryptionResponse", MEMBERS)) == ALL
        assert len(committee.events("PublicDecryptionResponse")) == 1


def lose_journal(folder: Path, member: int) -> None:
    for path in folder.glob(f"journal-{member}.db*"):
        path.unlink()


async def test_a_node_that_lost_its_journal_answers_nothing_twice(
    committee: Committee, tmp_path: Path
) -> None:
    async with committee.connected():
        await committee.ask("public")
        await committee.wait_answers("publicDecryptionResponse", MEMBERS)
    lose_journal(tmp_path, 2)
    async with committee.connected():
        await committee.ask("public")
        assert sorted(await committee.wait_answers("publicDecryptionResponse", MEMBERS, 2)) == ALL
        assert sorted(committee.senders("publicDecryptionResponse", 1)) == ALL
        assert len(committee.events("PublicDecryptionResponse")) == 2


async def test_four_nodes_make_a_key_and_its_reference_string_each_announced_once(
    committee: Committee,
) -> None:
    """They echo the request's id, so that their answers name the same (2.5)."""
    async with committee.connected():
        keys = committee.dependencies.keys
        for request, answer, values in (
            ("preprocessKeygenRequest", "preprocessKeygenResponse", (PARAMETERS,)),
            ("keygenRequest", "keygenResponse", (1,)),
            ("crsgenRequest", "crsgenResponse", (PARAMETERS,)),
        ):
            calldata = contracts.KEY_MANAGER.function(request).encode(*values)
            committee.dependencies.gateway.actors.transact(key_for("owner").address, keys.address, calldata)
            assert sorted(await committee.wait_answers(answer, MEMBERS)) == ALL
        assert [one[:2] for one in committee.events("KeygenResponse")] == [(1, 1)]
        assert [one[:2] for one in committee.events("CrsgenResponse")] == [(1, 1)]
