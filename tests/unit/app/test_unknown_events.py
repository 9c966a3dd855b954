"""An event of a contract whose events are all known, and which this version does not know, is an alert and not silence."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.app import unknown_events
from kmsconn.app.connector import open_connector
from kmsconn.app.unknown_events import UNKNOWN_EVENT
from kmsconn.ethereum.abi import Event as LogEvent
from kmsconn.ethereum.hexes import to_hex
from kmsconn.model.events import AlertCleared, AlertRaised, Event
from kmsconn.protocols.fhevm.abi import LATER_KMS_GENERATION, PROTOCOL_CONFIG
from tests.unit.app.few_components import FewComponents, few_components

INTERVAL, BLOCK, DEPTH = 30.0, 12.0, 4
FINAL = 2 * INTERVAL + 2 * DEPTH * BLOCK
_NUMBER = {"name": "keyId", "type": "uint256", "indexed": False}
UNHEARD_OF = LogEvent.from_item({"name": "RotateKeyRequest", "inputs": [_NUMBER]})


@asynccontextmanager
async def emitting(
    folder: Path, monkeypatch: pytest.MonkeyPatch, contract: str, *logs: tuple[LogEvent, Sequence[Any]]
) -> AsyncIterator[tuple[FewComponents, list[Event]]]:
    """Run a connector while a contract emits logs, until they are final and were looked for."""
    monkeypatch.setattr(unknown_events, "INTERVAL", INTERVAL)
    events: list[Event] = []
    async with few_components(folder, block_time=BLOCK) as components:
        components.dependencies.ethereum.finality.depth = DEPTH
        settings = components.settings()
        async with open_connector(settings, ports=components.ports, on_event=events.append) as connector:
            await connector.wait_ready()
            ethereum, emitter = components.dependencies.ethereum, getattr(components.dependencies, contract)
            for event, values in logs:
                ethereum.actors.act(emitter.address, partial(emit, event, values))
            await trio.sleep(FINAL)
            yield components, events


def emit(event: LogEvent, values: Sequence[Any], frame: Any) -> None:
    frame.emit(event, *values)


def alerts(events: list[Event]) -> list[AlertRaised]:
    return [one for one in events if isinstance(one, AlertRaised) and one.cause == UNKNOWN_EVENT]


@pytest.mark.parametrize("contract", ["kms_generation", "protocol_config"])
async def test_an_unknown_event_is_named_with_its_topic_and_place(
    contract: str, tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with emitting(tmp_path, monkeypatch, contract, (UNHEARD_OF, (7,)), (UNHEARD_OF, (8,))) as (
        _,
        events,
    ):
        [alert] = alerts(events)
        assert to_hex(UNHEARD_OF.topic0) in alert.text
        assert "1 events" in alert.text
        assert alert.dependency.startswith("ethereum 0x")
        assert AlertCleared(alert.dependency, UNKNOWN_EVENT) not in events


async def test_an_event_that_only_others_need_is_no_alert(
    tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    activated = (
        LATER_KMS_GENERATION.event("ActivateKey"),
        (4 << 248 | 1, 0, ("https://bucket.test",), ((3, b"\x33"),)),
    )
    upgraded = LATER_KMS_GENERATION.event("Upgraded"), (b"\x11" * 20,)
    async with emitting(tmp_path, monkeypatch, "kms_generation", activated, upgraded) as (_, events):
        assert alerts(events) == []


async def test_a_confirmation_of_another_node_is_no_alert(
    tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirmed = (
        PROTOCOL_CONFIG.event("EpochActivationConfirmation"),
        (8 << 248 | 2, b"\x11" * 20, b"\x22" * 32),
    )
    async with emitting(tmp_path, monkeypatch, "protocol_config", confirmed) as (_, events):
        assert alerts(events) == []
