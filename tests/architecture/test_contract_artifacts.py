"""The compiled contracts of the tests belong to the Solidity sources beside them, and speak the published ABI."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from kmsconn.ethereum.abi import Abi
from kmsconn.protocols.fhevm import abi
from kmsconn.protocols.fhevm.views import DECRYPTION_BASE, PROTOCOL_CONFIG_BASE
from tools import gen_contracts

PUBLISHED = {
    "ACL": abi.ACL,
    "Decryption": abi.DECRYPTION,
    "GatewayConfig": abi.GATEWAY_CONFIG,
    "ProtocolConfig": abi.PROTOCOL_CONFIG,
    "LaterProtocolConfig": abi.PROTOCOL_CONFIG,
    "KMSGeneration": abi.KMS_GENERATION,
    "LaterKMSGeneration": abi.KMS_GENERATION,
    "MigratingGeneration": abi.LATER_KMS_GENERATION,
}
NOT_OURS = {
    "ProtocolConfig": {"confirmEpochActivation", "confirmKmsContextCreation"},
    "LaterProtocolConfig": {"confirmEpochActivation", "confirmKmsContextCreation"},
    "MigratingGeneration": {"getCrsParamsType", "reinitializeV3"},
    "GatewayConfig": {"getHostChains"},
}
"""Published functions that the test contracts leave out: ceremonies, and what no connector asks."""
OWN_ERRORS = {"NotTheOwner", "CiphertextMaterialNotFound"}


@cache
def artifacts() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gen_contracts.TARGET.read_text())["contracts"]
    return found


def built(name: str) -> Abi:
    return Abi.from_items(artifacts()[name]["abi"])


def test_the_artifacts_are_fresh() -> None:
    assert gen_contracts.is_fresh(), "make contracts"


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_function_has_its_selector_and_results(name: str) -> None:
    ours = built(name).functions_by_selector
    for selector, function in PUBLISHED[name].functions_by_selector.items():
        if function.name in NOT_OURS.get(name, set()) or _belongs_to_proxies(function.name):
            continue
        assert ours[selector].signature == function.signature


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_event_of_ours_is_published(name: str) -> None:
    published = PUBLISHED[name].events_by_topic
    for topic, event in built(name).events_by_topic.items():
        assert published[topic].signature == event.signature


@pytest.mark.parametrize("name", [*PUBLISHED, "Wallet"])
def test_every_error_of_ours_is_published_but_for_two(name: str) -> None:
    for selector, error in built(name).errors_by_selector.items():
        assert selector in abi.ALL_ERRORS or error.name in OWN_ERRORS, error.signature


@pytest.mark.parametrize(
    ("name", "base"), [("Decryption", DECRYPTION_BASE), ("ProtocolConfig", PROTOCOL_CONFIG_BASE)]
)
def test_the_sources_lay_their_storage_where_we_read_it(name: str, base: int) -> None:
    source = (gen_contracts.SOURCES / f"{name}.sol").read_text()
    assert f"layout at 0x{base:064x}" in source


def _belongs_to_proxies(name: str) -> bool:
    return name in {"upgradeToAndCall", "proxiableUUID", "owner", "paused"}
