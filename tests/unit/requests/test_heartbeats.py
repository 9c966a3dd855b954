"""A part that does not come around stands still; what it finds when it does is nobody's business here."""

from __future__ import annotations

import pytest
import trio

from kmsconn.connector.connector import open_connector
from kmsconn.emulator.node_faults import RefusedCalls
from kmsconn.ethereum.addresses import checksum
from kmsconn.model.causes import CAUSES
from kmsconn.model.events import AlertCleared, AlertRaised, Event
from kmsconn.requests.core_health import CoreHealth
from kmsconn.requests.heartbeats import STALLED_AFTER, Heartbeats
from tests.unit.requests.few_components import FewComponents


def test_a_part_stands_still_after_the_limit_and_not_before() -> None:
    now = [0.0]
    heartbeats = Heartbeats(lambda: now[0])
    beat = heartbeats.part("reader of 0x01", "gateway")
    now[0] = STALLED_AFTER
    assert heartbeats.stalled() == ()
    now[0] += 1
    [found] = heartbeats.stalled()
    assert (found.part, found.dependency, found.seconds) == ("reader of 0x01", "gateway", STALLED_AFTER + 1)
    beat()
    assert heartbeats.stalled() == ()


def test_each_part_stands_for_itself() -> None:
    now = [0.0]
    heartbeats = Heartbeats(lambda: now[0])
    heartbeats.part("journal", "journal")
    beat = heartbeats.part("txmanager gateway", "gateway")
    now[0] = STALLED_AFTER + 1
    beat()
    assert [one.part for one in heartbeats.stalled()] == ["journal"]


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

    def connections(self, index: int) -> int:
        return 0

    async def health(self, index: int) -> str:
        await trio.sleep_forever()
        raise AssertionError


async def test_a_core_that_takes_calls_and_says_nothing_is_named() -> None:
    health = CoreHealth(SilentCore(), limit=7.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(health.run)
        await trio.sleep(6.9)
        assert list(health.alerts(trio.current_time())) == []
        await trio.sleep(4)
        [alert] = health.alerts(trio.current_time())
        nursery.cancel_scope.cancel()
    assert ("does not answer for 7 s" in alert.text, alert.critical) == (True, True)
