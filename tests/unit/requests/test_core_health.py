"""The health of the Core is asked every ten seconds, and at once when calls fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from kmsconn.connector.connector import open_connector
from kmsconn.emulator.node_faults import RefusedCalls
from kmsconn.errors import Unreachable
from kmsconn.ethereum.addresses import checksum
from kmsconn.model.causes import CAUSES
from kmsconn.model.events import AlertCleared, AlertRaised, Event
from kmsconn.requests.core_health import ENDPOINT_FAILURE_GRACE, GONE_AGAIN, HEALTH_CHECK_INTERVAL, CoreHealth
from tests.unit.requests.few_components import FewComponents


@attrs.define
class Core:
    endpoints: tuple[str, ...] = ("core[0]", "core[1]")
    wrong: dict[int, str] = attrs.field(factory=dict)
    down: set[int] = attrs.field(factory=set)
    """To which there is no connection."""
    connected: int = 1
    asked: list[tuple[int, float]] = attrs.field(factory=list)

    def connections(self, index: int) -> int:
        return self.connected

    def remedy(self, index: int, words: str) -> str:
        return f"mend {self.endpoints[index]}" if "page" in words else ""

    async def health(self, index: int) -> str:
        await trio.lowlevel.checkpoint()
        self.asked.append((index, trio.current_time()))
        if index in self.down:
            raise Unreachable("refused")
        return self.wrong.get(index, "")


@asynccontextmanager
async def watched(core: Core) -> AsyncIterator[CoreHealth]:
    health = CoreHealth(core, limit=3.0)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(health.run)
        await trio.sleep(0.5)
        yield health
        nursery.cancel_scope.cancel()


def alerts(health: CoreHealth) -> list[tuple[str, bool]]:
    return [(one.dependency, one.critical) for one in health.alerts(trio.current_time())]


async def test_each_endpoint_is_asked_every_ten_seconds() -> None:
    core = Core()
    async with watched(core):
        await trio.sleep(10 * HEALTH_CHECK_INTERVAL)
    assert 9 <= len([1 for index, _ in core.asked if index == 1]) <= 11


async def test_each_shard_that_is_gone_is_critical() -> None:
    core = Core()
    async with watched(core) as health:
        core.wrong[1] = "refused"
        await trio.sleep(HEALTH_CHECK_INTERVAL + ENDPOINT_FAILURE_GRACE + 1)
        assert alerts(health) == [("core[1]", True)]
        core.wrong[0] = "refused"
        await trio.sleep(HEALTH_CHECK_INTERVAL + ENDPOINT_FAILURE_GRACE + 1)
        assert set(alerts(health)) == {("core[0]", True), ("core[1]", True)}
        core.wrong.clear()
        await trio.sleep(2)
        assert alerts(health) == []


async def test_a_core_that_was_gone_for_a_moment_is_not_told() -> None:
    core = Core()
    async with watched(core) as health:
        core.wrong[0] = "restarting"
        await trio.sleep(HEALTH_CHECK_INTERVAL + ENDPOINT_FAILURE_GRACE - 1)
        core.wrong.clear()
        await trio.sleep(ENDPOINT_FAILURE_GRACE)
        assert alerts(health) == []


async def test_an_endpoint_to_which_calls_fail_is_asked_at_once() -> None:
    core = Core()
    async with watched(core) as health:
        await trio.sleep(1)
        now = trio.current_time()
        assert health.suspect(["core[0]"], now) == set()
        await trio.sleep(0.5)
        assert {index for index, at in core.asked if at > now} == {0, 1}
        assert health.suspect(["core[0]"], trio.current_time()) == {"core[0]"}
        assert health.suspect([], trio.current_time()) == set()


async def test_the_start_waits_until_each_has_served() -> None:
    core = Core(wrong={1: "loading keys"})
    async with watched(core) as health:
        with trio.move_on_after(60) as scope:
            await health.wait_served()
        assert scope.cancelled_caught
        core.wrong.clear()
        with trio.fail_after(3):
            await health.wait_served()


async def test_an_endpoint_is_gone_while_there_is_no_connection() -> None:
    core = Core()
    async with watched(core) as health:
        core.down.add(1)
        await trio.sleep(HEALTH_CHECK_INTERVAL + 1)
        assert health.gone == {1}
        core.wrong[1], core.down = "its health check failed: NOT_FOUND", set()
        await trio.sleep(GONE_AGAIN + 2)
        assert health.gone == set(), "it may take requests all the same"


async def test_one_that_calls_do_not_reach_is_asked_at_once_and_gone_if_it_does_not_serve() -> None:
    """A health check alone may be wrong about a Core that answers."""
    core = Core()
    async with watched(core) as health:
        core.wrong[0] = "is not serving"
        health.note_call(0, reached=False)
        await trio.sleep(0.5)
        assert health.gone == {0}
        health.note_call(0, reached=True)
        assert health.gone == set()


async def test_recovery_is_told_once_and_so_is_another_connection() -> None:
    """A Core may be restarted between two health checks."""
    core, told = Core(), []

    async def note(index: int, *, served: bool) -> None:
        await trio.lowlevel.checkpoint()
        told.append((index, served))

    async with watched(core) as health:
        health.on_recovery = note
        core.down.add(1)
        await trio.sleep(HEALTH_CHECK_INTERVAL + 1)
        core.down.clear()
        await trio.sleep(2 * HEALTH_CHECK_INTERVAL)
        assert told == [(1, False)]
        core.connected = 2
        await trio.sleep(2 * HEALTH_CHECK_INTERVAL)
        assert sorted(told) == [(0, True), (1, False), (1, True)]


TOLD_AFTER = CAUSES["logs"].after


@pytest.mark.slow
async def test_a_node_that_never_gives_logs_is_named(components: FewComponents) -> None:
    """Connected, on the right chain, with a moving head: only this shows that nothing is heard."""
    seen: list[Event] = []
    for node in components.dependencies.clusters["gateway"].nodes:
        node.faults.strike(RefusedCalls("eth_getLogs", message="no logs are kept here"))
    async with open_connector(components.settings(), ports=components.ports, on_event=seen.append):
        await trio.sleep(TOLD_AFTER + 10)
        name = f"gateway {checksum(components.settings().protocol.decryption_contract.address)}"
        told = [event for event in seen if isinstance(event, AlertRaised) and event.dependency == name]
        assert [(event.critical, "no logs are kept" in event.text) for event in told] == [(True, True)]
        for node in components.dependencies.clusters["gateway"].nodes:
            node.faults.heal()
        await trio.sleep(10)
        assert seen.count(AlertCleared(name, "logs")) == 1


class SilentCore:
    endpoints = ("core[0]",)

    def remedy(self, index: int, words: str) -> str:
        return ""

    def connections(self, index: int) -> int:
        return 0

    async def health(self, index: int) -> str:
        await trio.sleep_forever()
        raise AssertionError


async def test_a_core_that_takes_calls_and_says_nothing_is_named() -> None:
    health = CoreHealth(SilentCore(), limit=7.0)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(health.run)
        await trio.sleep(6.9)
        assert list(health.alerts(trio.current_time())) == []
        await trio.sleep(4)
        [alert] = health.alerts(trio.current_time())
        nursery.cancel_scope.cancel()
    assert ("does not answer for 7 s" in alert.text, alert.critical) == (True, True)
