"""An event of a contract whose events are all known, and which this version does not know, is an alert and not silence."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from kmsconn.connector import upkeep
from kmsconn.connector.connector import open_connector
from kmsconn.connector.event_hook import EventHook
from kmsconn.connector.upkeep import UNKNOWN_EVENT, UnknownEvents
from kmsconn.errors import Unreachable
from kmsconn.ethereum.abi import ContractEvent
from kmsconn.ethereum.hexes import to_hex
from kmsconn.model.events import AlertCleared, AlertRaised, AnswerKept, Event, RequestClosed, StageFinished
from kmsconn.protocols.fhevm.contracts import (
    DECRYPTION,
    DECRYPTION_TOPICS,
    LATER_EVENTS,
    LATER_KMS_GENERATION,
    PROTOCOL_CONFIG,
)
from kmsconn.requests.range_reader import WatchedContract
from tests.unit.requests.few_components import FewComponents, few_components

INTERVAL, BLOCK, DEPTH = 30.0, 12.0, 4
FINAL = 2 * INTERVAL + 2 * DEPTH * BLOCK
_NUMBER = {"name": "keyId", "type": "uint256", "indexed": False}
UNHEARD_OF = ContractEvent.from_item({"name": "RotateKeyRequest", "inputs": [_NUMBER]})


@asynccontextmanager
async def emitting(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *logs: tuple[str, ContractEvent, Sequence[Any]]
) -> AsyncIterator[tuple[FewComponents, list[Event]]]:
    """Run a connector while contracts emit logs, until they are final and were looked for."""
    monkeypatch.setattr(upkeep, "EVENTS_INTERVAL", INTERVAL)
    events: list[Event] = []
    async with few_components(folder, block_time=BLOCK) as components:
        dependencies = components.dependencies
        dependencies.ethereum.finality.depth = DEPTH
        settings = components.settings()
        async with open_connector(settings, ports=components.ports, on_event=events.append) as connector:
            await connector.wait_ready()
            for contract, event, values in logs:
                chain = dependencies.gateway if contract == "decryption" else dependencies.ethereum
                chain.actors.act(getattr(dependencies, contract).address, partial(emit, event, values))
            await trio.sleep(FINAL)
            yield components, events


def emit(event: ContractEvent, values: Sequence[Any], frame: Any) -> None:
    frame.emit(event, *values)


def alerts(events: list[Event]) -> list[AlertRaised]:
    return [one for one in events if isinstance(one, AlertRaised) and one.cause == UNKNOWN_EVENT]


async def test_an_unknown_event_is_named_with_its_topic_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each contract by itself, and of two events one."""
    logs = [
        (contract, UNHEARD_OF, (number,))
        for contract in ("kms_generation", "protocol_config", "decryption")
        for number in (7, 8)
    ]
    async with emitting(tmp_path, monkeypatch, *logs) as (_, events):
        raised = alerts(events)
        assert all(to_hex(UNHEARD_OF.topic0) in one.text and "1 events" in one.text for one in raised)
        about = [one.dependency for one in raised]
        assert sorted(one[: one.index(" 0x")] for one in about) == ["ethereum", "ethereum", "gateway"]
        assert len({*about}) == 3
        assert not [one for one in events if isinstance(one, AlertCleared) and one.cause == UNKNOWN_EVENT]


WINDOW = {"name": "windows", "type": "tuple[]", "components": [{"type": "uint64"}] * 3, "indexed": False}
PROPOSED = ContractEvent.from_item(
    {
        "name": "CoprocessorUpgradeProposed",
        "inputs": [
            {"name": "proposalId", "type": "uint256", "indexed": True},
            {"name": "softwareVersion", "type": "string", "indexed": False},
            WINDOW,
            {"name": "gwStartBlock", "type": "uint64", "indexed": False},
        ],
    }
)


def threshold_event(name: str) -> ContractEvent:
    inputs = [{"name": "contextId", "type": "uint256", "indexed": True}, _NUMBER]
    return ContractEvent.from_item({"name": f"{name}ThresholdUpdated", "inputs": inputs})


THRESHOLDS = ("PublicDecryption", "UserDecryption", "KmsGen", "Mpc")
ACTIVATED = (4 << 248 | 1, 0, ("https://bucket.test",), ((3, b"\x33"),))
OF_OTHERS = [
    ("kms_generation", LATER_KMS_GENERATION.event("ActivateKey"), ACTIVATED),
    ("kms_generation", LATER_KMS_GENERATION.event("Upgraded"), (b"\x11" * 20,)),
    (
        "protocol_config",
        PROTOCOL_CONFIG.event("EpochActivationConfirmation"),
        (8 << 248 | 2, b"\x11" * 20, b"\x22" * 32),
    ),
    ("protocol_config", PROPOSED, (1, "0.16", ((1, 2, 3),), 7)),
    *(("protocol_config", threshold_event(name), (1, 2)) for name in THRESHOLDS),
]


async def test_what_contracts_tell_others_is_no_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that only others need, a confirmation of another node, proposals and thresholds."""
    async with emitting(tmp_path, monkeypatch, *OF_OTHERS) as (_, events):
        assert alerts(events) == []


async def test_every_unknown_event_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = [threshold_event(f"Future{number}") for number in range(6)]
    logs = [("protocol_config", event, (1, 2)) for event in new]
    async with emitting(tmp_path, monkeypatch, *logs) as (_, events):
        assert all(to_hex(event.topic0) in alerts(events)[-1].text for event in new)


async def test_an_unknown_event_is_told_again_at_once_after_a_start_and_until_it_is_a_week_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "EVENTS_INTERVAL", INTERVAL)
    monkeypatch.setattr(upkeep, "LOOKED_BACK", 24)
    monkeypatch.setattr(upkeep, "WEEK", 24 * BLOCK)
    events: list[Event] = []
    async with few_components(tmp_path, block_time=BLOCK) as components:
        ethereum = components.dependencies.ethereum
        ethereum.finality.depth = DEPTH
        ethereum.actors.act(components.dependencies.protocol_config.address, partial(emit, UNHEARD_OF, (7,)))
        await trio.sleep(FINAL)
        settings, ports = components.settings(), components.ports
        async with open_connector(settings, ports=ports, on_event=events.append) as connector:
            await connector.wait_ready()
            await trio.sleep(INTERVAL / 2)
            [alert] = alerts(events)
            await trio.sleep(24 * BLOCK)
    assert AlertCleared(alert.dependency, UNKNOWN_EVENT) in events


@pytest.mark.parametrize("event", [*DECRYPTION.events_by_topic.values(), *LATER_EVENTS.values()], ids=str)
def test_every_event_of_decryption_is_known(event: ContractEvent) -> None:
    assert event.topic0 in DECRYPTION_TOPICS


@pytest.mark.parametrize(
    ("head", "next_block", "expected"),
    [
        (1000, None, (997, 1000)),
        (1002, 1001, (1001, 1002)),
        (5000, 1003, (4997, 5000)),
        (2, None, (0, 2)),
        (1000, 9000, (997, 1000)),
    ],
)
def test_of_a_contract_with_many_events_the_newest_blocks_are_looked_at(
    head: int, next_block: int | None, expected: tuple[int, int]
) -> None:
    contract = SimpleNamespace(components=SimpleNamespace(on_event=None), head=SimpleNamespace(number=head))
    watch = UnknownEvents(cast("WatchedContract", contract), DECRYPTION_TOPICS, 4, next_block)
    assert watch._next_range() == expected


EVENT = AlertCleared("gateway", "logs")


class BugError(Exception):
    pass


async def run_one_request(folder: Path, on_event: Any) -> None:
    async with few_components(folder) as components:
        components.traffic.forms["public"]()
        async with open_connector(
            components.settings(), ports=components.ports, on_event=on_event
        ) as connector:
            await connector.wait_drained()


@pytest.mark.parametrize(
    "error", [BugError("in the hook"), Unreachable("as if of ours"), OSError("log file gone")]
)
@pytest.mark.parametrize("at", [StageFinished, AnswerKept])
async def test_an_exception_of_the_hook_ends_the_connector(tmp_path: Path, error: Exception, at: Any) -> None:
    """Also one that a stage, or the worker boundary, would take for its own."""
    seen = []

    def on_event(event: Event) -> None:
        seen.append(event)
        if isinstance(event, at):
            raise error

    with trio.fail_after(600), pytest.raises(BaseExceptionGroup) as caught:
        await run_one_request(tmp_path, on_event)
    assert caught.value.subgroup(lambda leaf: leaf is error) is not None
    assert not [event for event in seen if isinstance(event, RequestClosed)]
    assert isinstance(seen[-1], at)  # nothing is told after the failure


async def test_the_hook_does_not_fail_where_it_was_called() -> None:
    """Who tells an event must not be disturbed half-way through a change of its own."""
    called = []

    def fail(event: Event) -> None:
        called.append(event)
        raise BugError

    hook = EventHook(fail)
    hook(EVENT)
    hook(EVENT)  # nothing is told after the failure
    with pytest.raises(BugError):
        await hook.watch()
    assert called == [EVENT]


async def test_a_hook_that_works_is_watched_for_ever() -> None:
    seen: list[Event] = []
    hook = EventHook(seen.append)
    hook(EVENT)
    with trio.move_on_after(5) as scope:
        await hook.watch()
    assert scope.cancelled_caught
    assert seen == [EVENT]
