"""A connector that is one of several: without a lease it neither reads nor sends, and works on what it picks; a fake says what it has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio

from kmsconn.connector import wiring
from kmsconn.journal import queries
from kmsconn.model.events import AlertRaised, ReplySigned, RequestRecorded
from kmsconn.model.life import State
from kmsconn.model.requests import PoolName
from kmsconn.requests.membership import Membership
from tests.faults.scene import Scene


@attrs.define
class FakeMember(Membership):
    """A member whose leases the test gives, by the first word of their names."""

    given: dict[str, trio.Event] = attrs.field(factory=dict)
    valid: bool = True
    has_successor: bool = False
    waited: list[str] = attrs.field(factory=list)
    gave_back: int = 0

    def is_valid(self) -> bool:
        return self.valid

    def lease(self, name: str) -> trio.Event:
        return self.given.setdefault(name.split(maxsplit=1)[0], trio.Event())

    def give(self, *names: str) -> None:
        for name in names:
            self.lease(name).set()

    async def hold(
        self,
        name: str,
        run: Callable[[], Awaitable[object]],
        meanwhile: Callable[[], Awaitable[object]] = trio.sleep_forever,
    ) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(meanwhile)
            await self.lease(name).wait()
            nursery.cancel_scope.cancel()
        await super().hold(name, run, meanwhile)

    async def give_rows_back(self) -> None:
        self.gave_back += 1


@pytest.fixture
def members(monkeypatch: pytest.MonkeyPatch) -> list[FakeMember]:
    """Let each connector be a fake member; return those that were made."""
    made: list[FakeMember] = []

    def make(journal: Any) -> FakeMember:
        made.append(FakeMember(journal))
        return made[-1]

    monkeypatch.setattr(wiring, "Membership", make)
    return made


async def states(connector: Any) -> set[State]:
    counts = await connector.components.journal.run(queries.counts, 0.0)
    return {state for _, state in counts.states}


async def test_a_contract_is_read_with_its_lease_only(scene: Scene, members: list[FakeMember]) -> None:
    """Without it the heads are known all the same, by which requests are judged."""
    async with scene.connected() as connector:
        await scene.ask("public")
        await trio.sleep(30)
        assert not scene.told(RequestRecorded)
        assert connector.components.gateway.head.number is not None
        members[0].give("reads")
        await scene.wait(lambda: scene.told(RequestRecorded))


async def test_every_head_is_known_without_a_lease_and_without_pushes(
    scene: Scene, members: list[FakeMember]
) -> None:
    """Whether a request is too late, and whether something was destroyed, is judged by heads in every process."""
    for cluster in scene.dependencies.clusters.values():
        for node in cluster.nodes:
            node.limits.unsupported.add("eth_subscribe")
    async with scene.connected() as connector:
        await trio.sleep(60)
        heads = [one.head.number for one in connector.components.chain_contexts.values()]
        assert all(heads)
        known = scene.dependencies.gateway.head.number
        assert known - connector.components.gateway.head.number < 20  # type: ignore[operator]


async def test_replies_are_sent_with_their_lease_only(scene: Scene, members: list[FakeMember]) -> None:
    async with scene.connected() as connector:
        members[0].give("reads")
        ids = await scene.ask("public")
        await trio.sleep(30)
        assert await states(connector) == {State.ANSWERED}
        members[0].give("sends")
        await scene.wait_answered(ids)


async def test_ordered_work_begins_with_its_lease_only(scene: Scene, members: list[FakeMember]) -> None:
    """Without it there are no workers, and the dispatcher does not look."""
    async with scene.connected() as connector:
        pool = connector.components.pools[PoolName.PROTOCOL_CONFIG]
        await trio.sleep(30)
        assert not pool.staffed.is_set()
        members[0].give("orders")
        await scene.wait(pool.staffed.is_set)


async def test_nothing_is_broadcast_when_another_may_have_taken_over(
    scene: Scene, members: list[FakeMember]
) -> None:
    """The signed reply waits, an alert says why, and it is sent once the lease is renewed."""
    async with scene.connected():
        members[0].give("reads", "sends")
        members[0].valid = False
        ids = await scene.ask("public")
        await scene.wait(lambda: scene.told(ReplySigned))
        await trio.sleep(30)
        assert not scene.answered
        assert any("lease" in alert.text for alert in scene.told(AlertRaised) if alert.cause == "broadcast")
        members[0].valid = True
        await scene.wait_answered(ids)


async def test_a_drain_ends_what_waits_for_a_lease_and_gives_rows_back(
    scene: Scene, members: list[FakeMember]
) -> None:
    async with scene.open() as connector:
        await trio.sleep(5)
        began = trio.current_time()
        connector.drain()
        members[0].give("reads", "sends", "orders", "upkeep")
        await connector.wait_drained()
        assert trio.current_time() - began < 1
        assert members[0].gave_back == 1


async def test_a_drain_leaves_the_replies_to_a_successor_at_once(
    scene: Scene, members: list[FakeMember]
) -> None:
    """Alone, a connector waits for the inclusion of what it has sent; with a successor it does not."""
    async with scene.open() as connector:
        members[0].give("reads", "sends")
        await scene.ask("public")
        await scene.wait(lambda: scene.told(ReplySigned))
        members[0].has_successor = True
        began = trio.current_time()
        connector.drain()
        await connector.wait_drained()
        assert trio.current_time() - began < 0.1
