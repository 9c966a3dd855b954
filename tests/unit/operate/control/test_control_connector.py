"""An operator and a running connector: what ended for a dependency's fault is answered after a retry, without touching the journal."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from kmsconn.connector.connector import open_connector
from kmsconn.emulator import core_faults
from kmsconn.model.events import Event, ReplyIncluded, RequestClosed
from kmsconn.operate.control.commands import perform
from kmsconn.operate.control.requests import COMMANDS
from kmsconn.operate.control.server import context_of
from tests.unit.requests.few_components import few_components

COUNT = 3


@pytest.mark.slow
@pytest.mark.once
async def test_expired_requests_are_answered_after_a_retry(tmp_path: Path) -> None:
    seen: list[Event] = []
    with trio.fail_after(3600):
        async with (
            few_components(tmp_path) as components,
            open_connector(
                components.settings(decryption_expiry=60.0), ports=components.ports, on_event=seen.append
            ) as connector,
        ):
            await connector.wait_ready()
            context = context_of(connector)
            core = components.dependencies.cores[0]
            core.strike(core_faults.FailingCore(code="UNAVAILABLE"))
            for _ in range(COUNT):
                components.traffic.forms["public"]()
            await trio.sleep(200)
            assert len([e for e in seen if isinstance(e, RequestClosed)]) == COUNT
            listed = await perform(
                COMMANDS, context, "requests.list", {"states": ["expired"], "cause": "expired"}
            )
            assert len(listed["requests"]) == COUNT
            core.heal()
            done = await perform(COMMANDS, context, "requests.retry", {"states": ["failed"]})
            assert (len(done["retried"]), done["refused"]) == (COUNT, [])
            await trio.sleep(20)
            assert len([e for e in seen if isinstance(e, ReplyIncluded)]) == COUNT
            again = await perform(
                COMMANDS, context, "requests.retry", {"requests": [listed["requests"][0]["id"]]}
            )
            assert again["retried"] == []
            assert "already" in again["refused"][0]["why"]
