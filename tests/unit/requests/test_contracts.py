"""What a configured contract says while the connector runs: its code is gone, its domain is another one, its version is newer."""

from __future__ import annotations

import attrs
import pytest
import trio

from kmsconn.connector import connector as app
from kmsconn.connector import dependency_checks
from kmsconn.connector.connector import open_connector
from kmsconn.connector.dependency_checks import MISSING_INTERVAL, NEWER_CONTRACT, WRONG_CONTRACT
from kmsconn.emulator.contracts.contract import domain_teller
from kmsconn.emulator.dependencies import address_for, key_for
from kmsconn.emulator.execution import Frame, Reverted
from kmsconn.emulator.users import Prepared
from kmsconn.ethereum.addresses import checksum
from kmsconn.model.events import AlertCleared, AlertRaised, Event, ReplyIncluded, RequestClosed, Severity
from kmsconn.model.life import State
from kmsconn.protocols.fhevm.abi import DECRYPTION, PROTOCOL_CONFIG
from tests.unit.requests.few_components import FewComponents

INTERVAL = 30.0


async def test_a_contract_without_code_is_named_with_its_option_until_it_is_back(
    components: FewComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "CONTRACTS_INTERVAL", INTERVAL)
    events: list[Event] = []
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


def alerts(events: list[Event], cause: str) -> list[AlertRaised]:
    return [one for one in events if isinstance(one, AlertRaised) and one.cause == cause]


async def test_a_signature_is_refused_for_good_only_under_a_confirmed_domain(
    components: FewComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "CONTRACTS_INTERVAL", INTERVAL)
    events: list[Event] = []
    decryption, tell = components.dependencies.decryption, DECRYPTION.function("eip712Domain")
    settings = components.settings()
    async with open_connector(settings, ports=components.ports, on_event=events.append) as connector:
        await connector.wait_ready()
        decryption.offer(tell, domain_teller(attrs.evolve(decryption.domain, version="2")))
        await trio.sleep(INTERVAL + 5)
        [alert] = alerts(events, WRONG_CONTRACT)
        assert (alert.dependency, alert.severity) == ("gateway", Severity.CRITICAL)
        assert alert.text.startswith("decryption_contract.domain_version: is '1', but")
        user = key_for("user").address
        calldata = components.traffic._unified(user, user, "a stranger")
        components.traffic.send(Prepared("unified", calldata, ()))
        await trio.sleep(MISSING_INTERVAL)
        assert not [one for one in events if isinstance(one, RequestClosed)]
        decryption.offer(tell, domain_teller(decryption.domain))
        await trio.sleep(2 * MISSING_INTERVAL + 60)
        [closed] = [one for one in events if isinstance(one, RequestClosed)]
        assert closed.state is State.REJECTED


async def test_after_an_hour_without_an_answer_no_domain_is_confirmed(
    components: FewComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependency_checks, "CONFIRMED", 2 * INTERVAL)
    monkeypatch.setattr(app, "CONTRACTS_INTERVAL", INTERVAL)
    events: list[Event] = []
    decryption, tell = components.dependencies.decryption, DECRYPTION.function("eip712Domain")
    settings = components.settings()
    async with open_connector(settings, ports=components.ports, on_event=events.append) as connector:
        await connector.wait_ready()
        decryption.offer(tell, _not_ready)
        await trio.sleep(2 * INTERVAL - 5)
        assert alerts(events, WRONG_CONTRACT) == []
        await trio.sleep(2 * INTERVAL)
        [alert] = alerts(events, WRONG_CONTRACT)
        assert alert.severity is Severity.CRITICAL
        assert "confirmed for an hour" in alert.text


def _not_ready(_: Frame) -> None:
    raise Reverted(b"\x12\x34\x56\x78")


async def test_a_newer_contract_is_told_at_the_start_and_decryptions_go_on(components: FewComponents) -> None:
    events: list[Event] = []
    config, version = components.dependencies.protocol_config, PROTOCOL_CONFIG.function("getVersion")
    config.offer(version, lambda _: ("ProtocolConfig v0.4.0",))
    settings = components.settings()
    async with open_connector(settings, ports=components.ports, on_event=events.append) as connector:
        await connector.wait_ready()
        [alert] = alerts(events, NEWER_CONTRACT)
        components.traffic.forms["public"]()
        await trio.sleep(30)
        assert [one for one in events if isinstance(one, ReplyIncluded)]
    assert (alert.dependency, alert.severity) == (f"ethereum {checksum(config.address)}", Severity.CRITICAL)
    assert "version 0.4.0, and 0.3 is the newest known here: this concerns contexts and epochs" in alert.text
    assert alert.remedy == "upgrade kmsconn"


@pytest.mark.parametrize(
    ("version", "later"),
    [
        ("Decryption v0.6.0", False),
        ("Decryption v0.7.0", True),
        ("Decryption v0.10.0", True),
        ("Decryption v1.0.0", True),
        ("Decryption v0.7", False),
        ("Decryption v0.7.0-rc1", False),
    ],
)
async def test_the_network_is_later_from_decryption_0_7_0_on(
    version: str, later: bool, components: FewComponents
) -> None:
    decryption = components.dependencies.decryption
    decryption.offer(DECRYPTION.function("getVersion"), lambda _: (version,))
    async with open_connector(components.settings(), ports=components.ports) as connector:
        await connector.wait_ready()
        assert connector.components.expiry.later is later
