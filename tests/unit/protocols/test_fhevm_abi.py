from __future__ import annotations

from typing import Any

import pytest

from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols.fhevm import abi
from tests import vectors
from tools import gen_abi


def event_vectors() -> list[tuple[str, str, dict[str, Any]]]:
    groups = vectors.abi_source()["event_test_vectors"]
    return [
        (contract, signature, log) for contract, logs in groups.items() for signature, log in logs.items()
    ]


def test_the_run_time_copy_is_fresh() -> None:
    assert gen_abi.stale() == []


@pytest.mark.parametrize(("contract", "signature", "log"), event_vectors())
def test_every_event_decodes_and_encodes_to_the_same_bytes(
    contract: str, signature: str, log: dict[str, Any]
) -> None:
    event = abi.CONTRACTS[contract].event(signature)
    topics, data = tuple(from_hex(topic) for topic in log["topics"]), from_hex(log["data"])
    assert event.encode(*event.decode(topics, data)) == (topics, data)


def test_the_test_vectors_name_every_event() -> None:
    known = {
        (name, event.signature)
        for name, one in abi.CONTRACTS.items()
        for event in one.events_by_topic.values()
    }
    assert known == {(contract, signature) for contract, signature, _ in event_vectors()}


@pytest.mark.parametrize(
    ("index", "attribute"),
    [
        ("functions_by_selector", "functions_by_selector"),
        ("events_by_topic0", "events_by_topic"),
        ("errors_by_selector", "errors_by_selector"),
    ],
)
def test_selectors_are_those_of_the_compiler(index: str, attribute: str) -> None:
    expected = {from_hex(key): entry["signature"] for key, entry in vectors.abi_source()[index].items()}
    found: dict[bytes, str] = {}
    for contract in abi.CONTRACTS.values():
        found |= {key: entry.signature for key, entry in getattr(contract, attribute).items()}
    assert found == expected


def test_the_union_of_errors_has_every_one() -> None:
    sources = (vectors.abi_source(), vectors.later_abi_source())
    assert {from_hex(key) for one in sources for key in one["errors_by_selector"]} == set(abi.ALL_ERRORS)


def test_the_next_contract_of_keys_has_the_topics_of_its_own() -> None:
    wanted = vectors.load_later()["topics_and_selectors"]["new_events"]
    assert {from_hex(topic) for topic in wanted.values()} < set(abi.LATER_KMS_GENERATION.events_by_topic)
    assert {from_hex(topic) for topic in wanted.values()}.isdisjoint(abi.KMS_GENERATION.events_by_topic)


def test_later_events_are_known_apart() -> None:
    assert set(abi.LATER_EVENTS).isdisjoint(abi.DECRYPTION.events_by_topic)
    expected = {from_hex(key) for key in vectors.abi_source()["later_events"]["events_by_topic0"]}
    assert set(abi.LATER_EVENTS) == expected


@pytest.mark.parametrize(
    ("contract", "name", "selector"),
    [
        (abi.DECRYPTION, "publicDecryptionResponse", "6f8913bc"),
        (abi.DECRYPTION, "userDecryptionResponse", "046f9eb3"),
        (abi.KMS_GENERATION, "keygenResponse", "4610ffe8"),
        (abi.PROTOCOL_CONFIG, "confirmEpochActivation", "4cb950e1"),
        (abi.GATEWAY_CONFIG, "getKmsNodeForContext", "31ff41c8"),
        (abi.ACL, "isAllowed", "82027b6d"),
        (abi.ERC1271, "isValidSignature", "1626ba7e"),
    ],
)
def test_selectors_of_the_specification(contract: Any, name: str, selector: str) -> None:
    assert contract.function(name).selector.hex() == selector
