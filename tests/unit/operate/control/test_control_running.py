"""Operators' commands on a whole running connector: how it is, what a worker does, pausing, skipping, asking the Core again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import trio

from kmsconn.connector.connector import open_connector
from kmsconn.model.events import AlertCleared, AlertRaised, Event, ReplyIncluded
from kmsconn.observe.monitor import Monitor
from kmsconn.operate.commands.operators import COMMANDS as OPERATORS
from kmsconn.operate.control.commands import Context, perform
from kmsconn.operate.control.server import COMMANDS, context_of
from tests.unit.requests.few_components import FewComponents, few_components

pytestmark = [pytest.mark.slow, pytest.mark.once]


@attrs.frozen
class Operated:
    """A running connector with what an operator has."""

    components: FewComponents
    context: Context
    seen: list[Event]

    async def ask(self, command: str, **arguments: Any) -> Any:
        answer = await perform(COMMANDS, self.context, command, arguments)
        return msgspec.json.decode(msgspec.json.encode(answer))  # as it goes over the socket

    def told(self, kind: type) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]


@asynccontextmanager
async def operated(folder: Path, components: FewComponents) -> AsyncIterator[Operated]:
    monitor, seen = Monitor(), list[Event]()

    def on_event(event: Event) -> None:
        monitor.on_event(event)
        seen.append(event)

    async with open_connector(components.settings(), ports=components.ports, on_event=on_event) as connector:
        monitor.watch(connector.statistics)
        await connector.wait_ready()
        yield Operated(components, context_of(connector, monitor.health), seen)


async def test_status_has_all_that_an_operator_asks_about(tmp_path: Path) -> None:
    with trio.fail_after(3600):
        async with few_components(tmp_path) as components, operated(tmp_path, components) as one:
            components.traffic.forms["public"]()
            await trio.sleep(20)
            status = await one.ask("status")
            assert (status["running"], status["ready"], status["healthy"], status["alerts"]) == (True, True, True, [])  # fmt: skip
            assert sum(status["requests"]["public_decryption"].values()) == 1
            assert status["cores"] == {"core[0]": {"serving": True, "text": ""}}
            assert status["chains"]["gateway"]["endpoint"]
            assert status["chains"]["gateway"]["head"] > 0
            assert status["transactions"]["gateway"]["next_nonce"] == 1
            assert int(status["transactions"]["gateway"]["balance"]) > 0
            assert status["uptime"] == pytest.approx(20, abs=10)
            lines = [*OPERATORS["status"].shown["status"](status)]
            assert len(lines) < 30
            assert [line for line in lines if line.startswith("sends gateway")]


async def test_a_paused_kind_waits_and_is_answered_once_it_is_resumed(tmp_path: Path) -> None:
    with trio.fail_after(3600):
        async with few_components(tmp_path) as components:
            async with operated(tmp_path, components) as one:
                await one.ask("pause", kind="public_decryption", reason="upgrade")
                components.traffic.forms["public"]()
                await trio.sleep(20)
                assert one.told(ReplyIncluded) == []
                [alert] = [event for event in one.told(AlertRaised) if event.cause == "paused"]
                assert (alert.dependency, "upgrade" in alert.text) == ("public_decryption", True)
                assert (await one.ask("status"))["healthy"]
            async with operated(tmp_path, components) as one:  # it survives the restart
                await trio.sleep(20)
                assert one.told(ReplyIncluded) == []
                explained = await one.ask("explain", request="1")
                assert "kmsconn resume public_decryption" in explained["requests"][0]["next"]
                await one.ask("resume", kind="public_decryption")
                await trio.sleep(20)
                assert len(one.told(ReplyIncluded)) == 1
                assert AlertCleared("public_decryption", "paused") in one.seen


async def test_an_included_reply_is_the_same_when_the_core_is_asked_again(tmp_path: Path) -> None:
    with trio.fail_after(3600):
        async with few_components(tmp_path) as components, operated(tmp_path, components) as one:
            components.traffic.forms["public"]()
            await trio.sleep(20)
            replayed = await one.ask("replay", request="1")
            assert (replayed["same"], [check["check"] for check in replayed["checks"]]) == (
                True, ["event", "calldata", "transaction", "core"],
            )  # fmt: skip
            assert all(check["same"] for check in replayed["checks"])
            assert len(one.told(ReplyIncluded)) == 1
