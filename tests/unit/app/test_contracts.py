"""A configured contract whose code is gone while the connector runs is an alert until it is there again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.app import connector as app
from kmsconn.app.connector import open_connector
from kmsconn.app.dependency_checks import MISSING_INTERVAL, WRONG_CONTRACT
from kmsconn.emulator.dependencies import address_for
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity
from tests.unit.app.few_components import few_components

INTERVAL = 30.0


async def test_a_contract_without_code_is_named_with_its_option_until_it_is_back(
    tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "CONTRACTS_INTERVAL", INTERVAL)
    events: list[Event] = []
    async with few_components(tmp_path) as components:
        ethereum, where = components.dependencies.ethereum, address_for("KMSGeneration")
        async with open_connector(
            components.settings(), ports=components.ports, on_event=events.append
        ) as connector:
            await connector.wait_ready()
            contract = ethereum.evm.contracts.pop(where)
            await trio.sleep(INTERVAL + 5)
            [alert] = [one for one in events if isinstance(one, AlertRaised) and one.cause == WRONG_CONTRACT]
            assert (alert.dependency, alert.severity) == ("ethereum", Severity.CRITICAL)
            assert alert.text.startswith("kms_generation_contract.address: ")
            ethereum.evm.contracts[where] = contract
            await trio.sleep(MISSING_INTERVAL + 5)
            assert AlertCleared("ethereum", WRONG_CONTRACT) in events
