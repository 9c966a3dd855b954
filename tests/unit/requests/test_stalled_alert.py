"""What does not work for long is named, in red, and is over when it works again."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from kmsconn.connector.connector import open_connector
from kmsconn.emulator.node_faults import NodeError
from kmsconn.ethereum.addresses import checksum
from kmsconn.model.causes import CAUSES
from kmsconn.model.events import AlertCleared, AlertRaised, Event
from kmsconn.requests.core_health import CoreHealth
from tests.unit.requests.few_components import few_components

STALLED_AFTER = CAUSES["logs"].after


@pytest.mark.slow
async def test_a_node_that_never_gives_logs_is_named(tmp_path: Path) -> None:
    """Connected, on the right chain, with a moving head: only this shows that nothing is heard."""
    seen: list[Event] = []
    async with few_components(tmp_path) as components:
        for node in components.dependencies.clusters["gateway"].nodes:
            node.faults.answer("eth_getLogs", NodeError(-32000, "no logs are kept here"), 10_000)
        async with open_connector(components.settings(), ports=components.ports, on_event=seen.append):
            await trio.sleep(STALLED_AFTER + 10)
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
