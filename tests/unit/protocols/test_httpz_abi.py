from __future__ import annotations

from typing import Any

import pytest

from kmsconn.ethereum.abi import Abi
from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols.httpz_rc7 import abi
from tests.vectors import httpz

REVISIONS: dict[str, dict[str, Abi]] = {
    "main": abi.CONTRACTS,
    "rc4": abi.RC4,
    "rc7": abi.RC7,
    "rc9_getters": {"HTTPZ": abi.RC9},
}
INDICES = {
    "topic0": ("events_by_topic", "topic0"),
    "selectors": ("functions_by_selector", "selector"),
    "error_selectors": ("errors_by_selector", "selector"),
}


def index(revision: str, name: str) -> dict[str, dict[str, Any]]:
    source = httpz.abi_source()
    found: dict[str, dict[str, Any]] = (source if revision == "main" else source["revisions"][revision])[name]
    return found


@pytest.mark.parametrize("name", INDICES)
@pytest.mark.parametrize("revision", REVISIONS)
def test_selectors_and_topics_are_those_of_the_companion_file(revision: str, name: str) -> None:
    attribute, key = INDICES[name]
    for contract, entries in index(revision, name).items():
        expected = {from_hex(entry[key]): entry["signature"] for entry in entries.values()}
        found = getattr(REVISIONS[revision][contract], attribute)
        assert {each: entry.signature for each, entry in found.items()} == expected


@pytest.mark.parametrize("revision", REVISIONS)
def test_no_contract_is_left_out(revision: str) -> None:
    source = httpz.abi_source()
    names = [name for name, items in source.items() if isinstance(items, list)]
    expected = names if revision == "main" else list(source["revisions"][revision]["contracts"])
    assert sorted(REVISIONS[revision]) == sorted(expected)


def test_indexed_arguments_are_those_of_the_companion_file() -> None:
    for contract, entries in index("main", "topic0").items():
        for name, entry in entries.items():
            items = httpz.abi_source()[contract]
            (item,) = [one for one in items if one["type"] == "event" and one["name"] == name]
            named = [one["name"] for one in item["inputs"] if one["indexed"]]
            assert named == entry["indexed"]
            assert abi.CONTRACTS[contract].event(name).indexed == tuple(
                one["indexed"] for one in item["inputs"]
            )


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ("0x7c76f693", None),
        ("0xe2517d3f", "AccessControlUnauthorizedAccount"),
        ("0xaee86323", "NotKmsTxSender"),
        ("0x2a7c6ef6", "NotKmsSigner"),
        ("0xa1714c77", "KmsSignerAlreadyResponded"),
        ("0xfce698f7", "ECDSAInvalidSignatureLength"),
        ("0xd78bce0c", "ECDSAInvalidSignatureS"),
        ("0xf645eedf", "ECDSAInvalidSignature"),
    ],
)
def test_the_union_of_errors_has_those_of_every_revision(selector: str, name: str | None) -> None:
    found = abi.ALL_ERRORS.get(from_hex(selector))
    assert (found and found.name) == name


@pytest.mark.parametrize(
    ("contract", "name", "selector"),
    [
        (abi.DECRYPTION_MANAGER, "publicDecryptionResponse", "02fd1a64"),
        (abi.DECRYPTION_MANAGER, "userDecryptionResponse", "b9bfe0a8"),
        (abi.KEY_MANAGER, "preprocessKeygenResponse", "faac73b4"),
        (abi.KEY_MANAGER, "preprocessKskgenResponse", "941c8df6"),
        (abi.KEY_MANAGER, "keygenResponse", "6aafa976"),
        (abi.KEY_MANAGER, "crsgenResponse", "40c24f15"),
        (abi.KEY_MANAGER, "kskgenResponse", "9594a901"),
        (abi.KEY_MANAGER, "activateKeyResponse", "3b41a6dd"),
        (abi.KEY_MANAGER, "getCurrentKeyId", "d8909eab"),
        (abi.KEY_MANAGER, "isCurrentKeyId", "9f8ec91c"),
        (abi.HTTPZ, "coprocessors", "ecbd96ab"),
        (abi.HTTPZ, "kmsNodes", "54d3f675"),
        (abi.RC9, "getCoprocessor", "ef6997f9"),
        (abi.RC9, "getKmsNode", "e3b2a874"),
    ],
)
def test_selectors_of_the_specification(contract: Abi, name: str, selector: str) -> None:
    assert contract.function(name).selector.hex() == selector


@pytest.mark.parametrize("revision", httpz.REVISIONS)
def test_every_recorded_log_decodes_and_encodes_to_the_same_bytes(revision: str) -> None:
    contracts = abi.CONTRACTS if revision == "bytes32" else abi.RC7
    events = {topic: event for one in contracts.values() for topic, event in one.events_by_topic.items()}
    seen = set()
    for log in httpz.logs(httpz.load()[revision]):
        topics, data = tuple(from_hex(topic) for topic in log["topics"]), from_hex(log["data"])
        event = events[topics[0]]
        assert event.encode(*event.decode(topics, data)) == (topics, data)
        seen.add(event.name)
    assert seen >= {
        "PublicDecryptionRequest",
        "UserDecryptionResponse",
        "KskgenRequest",
        "Initialization",
        "AddFheParams",
    }
