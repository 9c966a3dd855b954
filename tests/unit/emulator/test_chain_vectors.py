"""The emulated Decryption and GatewayConfig do what the real contracts did, for every vector that can be played again."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.protocols.fhevm_014.abi import ALL_ERRORS
from tests import vectors
from tests.unit.emulator.vector_world import END_OF_STAGE, replay, rpc

REQUESTS = vectors.requests()
ANSWERS = [(entry, answer) for entry, answer in vectors.answers() if "proof" in answer]
REVERTS = vectors.load()["reverts"]
READS = vectors.load()["storage"]["reads"]
VIEWS = vectors.load()["views"]


@pytest.mark.parametrize("entry", REQUESTS, ids=lambda entry: entry["name"])
def test_a_request_emits_the_recorded_log(entry: dict[str, Any]) -> None:
    (log,) = replay().requests[entry["name"]].logs
    expected = vectors.log_of(entry)
    assert (expected.address, expected.topics, expected.data) == (log.address, log.topics, log.data)
    assert expected.block_number == log.block_number


@pytest.mark.parametrize("entry", REQUESTS, ids=lambda entry: entry["name"])
def test_a_request_stands_at_the_recorded_time(entry: dict[str, Any]) -> None:
    assert entry["block_timestamp"] == replay().requests[entry["name"]].timestamp


@pytest.mark.parametrize(("entry", "answer"), ANSWERS, ids=lambda v: str(v.get("name", v.get("node"))))
def test_a_recorded_reply_is_accepted_with_its_events(entry: dict[str, Any], answer: dict[str, Any]) -> None:
    mined = replay().replies[entry["name"], answer["node"]]
    expected = [(event["topics"], event["data_keccak256"]) for event in answer["proof"]["events"]]
    got = [([to_hex(t) for t in log.topics], to_hex(keccak256(log.data))) for log in mined.logs]
    assert (1, expected) == (mined.outcome.status, got)


@pytest.mark.parametrize(("entry", "answer"), ANSWERS, ids=lambda v: str(v.get("name", v.get("node"))))
def test_the_gas_of_a_reply_is_near_the_real_one(entry: dict[str, Any], answer: dict[str, Any]) -> None:
    used = replay().replies[entry["name"], answer["node"]].outcome.gas_used
    assert used == pytest.approx(int(answer["proof"]["gas_used"], 16), rel=0.05)


@pytest.mark.parametrize("entry", REVERTS, ids=lambda entry: f"{entry['state']}: {entry['name']}")
def test_a_refused_reply_gives_the_recorded_error_object(entry: dict[str, Any]) -> None:
    answer = replay().reverts[entry["name"], entry["state"]]
    assert entry["eth_call_error"] == answer["error"]


@pytest.mark.parametrize("entry", REVERTS, ids=lambda entry: f"{entry['state']}: {entry['name']}")
def test_an_estimate_of_a_refused_reply_gives_the_same_error(entry: dict[str, Any]) -> None:
    assert entry["eth_call_error"] == replay().estimates[entry["name"], entry["state"]]["error"]


@pytest.mark.parametrize("entry", REVERTS, ids=lambda entry: f"{entry['state']}: {entry['name']}")
def test_a_refused_reply_names_the_recorded_custom_error(entry: dict[str, Any]) -> None:
    data = from_hex(replay().reverts[entry["name"], entry["state"]]["error"]["data"])
    assert entry["error"] == ALL_ERRORS[data[:4]].signature


@pytest.mark.parametrize("entry", READS, ids=lambda entry: f"{entry['stage']}: {entry['what']}")
def test_a_storage_slot_holds_the_recorded_value(entry: dict[str, Any]) -> None:
    address = vectors.load()["storage"]["address"]
    answer = rpc(replay().node, "eth_getStorageAt", address, entry["slot"], entry["block_number"])
    assert entry["value"] == answer["result"]


@pytest.mark.parametrize("entry", VIEWS, ids=lambda entry: f"{entry['stage']}: {entry['function']}")
def test_a_view_gives_the_recorded_bytes(entry: dict[str, Any]) -> None:
    answer = rpc(replay().node, "eth_call", entry["call"], hex(END_OF_STAGE[entry["stage"]]))
    if "error" in entry:
        assert entry["error"] == answer["error"]
    else:
        assert entry["result"] == answer["result"]


def test_the_consensus_digest_of_public_requests_stands_in_storage() -> None:
    for entry, answer in ANSWERS:
        digest = answer["proof"].get("contract_stored_consensus_digest")
        if digest is None:
            continue
        from kmsconn.emulator.contracts.decryption import BASE
        from kmsconn.protocols.storage import mapping_slot

        slot = hex(mapping_slot(BASE + 3, int(entry["decryption_id"], 16)))
        address = vectors.load()["storage"]["address"]
        assert digest == rpc(replay().node, "eth_getStorageAt", address, slot, "latest")["result"]


def test_the_vectors_are_all_played() -> None:
    played = replay()
    assert (len(played.requests), len(played.replies), len(played.reverts)) == (29, 34, 62)
