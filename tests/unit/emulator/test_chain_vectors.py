"""The emulated Decryption, GatewayConfig, ACL and ProtocolConfig do what the real contracts did, for every vector that can be played."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.contracts.acl import Acl
from kmsconn.emulator.contracts.protocol_config import BASE
from kmsconn.emulator.rpc import RpcNode
from kmsconn.ethereum.addresses import parse_address
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.protocols.fhevm.contracts import ACL, ALL_ERRORS
from tests import vectors
from tests.unit.emulator.small_world import END_OF_STAGE, replay, rpc

REQUESTS = vectors.requests()
ANSWERS = [(entry, answer) for entry, answer in vectors.answers() if "proof" in answer]
REVERTS = vectors.load()["reverts"]
READS = vectors.load()["storage"]["reads"]
VIEWS = vectors.load()["views"]


def test_a_request_emits_the_recorded_log_at_the_recorded_time() -> None:
    for entry in REQUESTS:
        mined, expected = replay().requests[entry["name"]], vectors.log_of(entry)
        (log,) = mined.logs
        assert (expected.address, expected.topics, expected.data) == (log.address, log.topics, log.data)
        assert (expected.block_number, entry["block_timestamp"]) == (log.block_number, mined.timestamp)


def test_a_recorded_reply_is_accepted_with_its_events() -> None:
    for entry, answer in ANSWERS:
        mined = replay().replies[entry["name"], answer["node"]]
        expected = [(event["topics"], event["data_keccak256"]) for event in answer["proof"]["events"]]
        got = [([to_hex(t) for t in log.topics], to_hex(keccak256(log.data))) for log in mined.logs]
        assert (1, expected) == (mined.outcome.status, got), entry["name"]


def test_the_gas_of_a_reply_is_near_the_real_one() -> None:
    for entry, answer in ANSWERS:
        used = replay().replies[entry["name"], answer["node"]].outcome.gas_used
        assert used == pytest.approx(int(answer["proof"]["gas_used"], 16), rel=0.05), entry["name"]


def test_a_call_and_an_estimate_of_a_refused_reply_give_the_recorded_error_object() -> None:
    for entry in REVERTS:
        key = entry["name"], entry["state"]
        assert (
            replay().reverts[key]["error"] == replay().estimates[key]["error"] == entry["eth_call_error"]
        ), key
        assert entry["error"] == ALL_ERRORS[from_hex(entry["eth_call_error"]["data"])[:4]].signature


def test_a_storage_slot_holds_the_recorded_value() -> None:
    address = vectors.load()["storage"]["address"]
    for entry in READS:
        answer = rpc(replay().node, "eth_getStorageAt", address, entry["slot"], entry["block_number"])
        assert entry["value"] == answer["result"], entry["what"]


def test_a_view_gives_the_recorded_bytes() -> None:
    for entry in VIEWS:
        answer = rpc(replay().node, "eth_call", entry["call"], hex(END_OF_STAGE[entry["stage"]]))
        what = "error" if "error" in entry else "result"
        assert entry[what] == answer[what], (entry["stage"], entry["function"])


def test_the_consensus_digest_of_public_requests_stands_in_storage() -> None:
    for entry, answer in ANSWERS:
        digest = answer["proof"].get("contract_stored_consensus_digest")
        if digest is None:
            continue
        from kmsconn.emulator.contracts.decryption import BASE
        from kmsconn.protocols.queries import mapping_slot

        slot = hex(mapping_slot(BASE + 3, int(entry["decryption_id"], 16)))
        address = vectors.load()["storage"]["address"]
        assert digest == rpc(replay().node, "eth_getStorageAt", address, slot, "latest")["result"]


def test_the_vectors_are_all_played() -> None:
    played = replay()
    assert (len(played.requests), len(played.replies), len(played.reverts)) == (29, 34, 62)


ETHEREUM = vectors.load()["environment"]["ethereum"]
HOST = vectors.load()["ethereum"]
ACL_ADDRESS = parse_address(ETHEREUM["contracts"]["ACL"])


def host_with_rights() -> RpcNode:
    """Return a host chain whose ACL grants exactly what the recorded results say."""
    chain = EmulatedChain(ETHEREUM["chain_id"], lambda: 1_767_312_000)
    acl = Acl(ACL_ADDRESS)
    chain.evm.deploy(acl)
    for entry in HOST["acl"]["results"]:
        data = from_hex(entry["calldata"])
        function = ACL.functions_by_selector[data[:4]]
        if int(entry["result"], 16):
            chain.evm.set_up(
                ACL_ADDRESS, partial(grant, acl, name=function.name, values=function.decode(data))
            )
    return RpcNode(chain)


def grant(acl: Acl, frame: Any, name: str, values: tuple[Any, ...]) -> None:
    match name, values:
        case "isAllowedForDecryption", (handle,):
            acl.allow_for_decryption(frame, handle)
        case "isAllowed", (handle, account):
            acl.allow(frame, handle, account)
        case "isHandleDelegatedForUserDecryption", (delegator, delegate, contract, handle):
            acl.allow(frame, handle, delegator)
            acl.allow(frame, handle, contract)
            acl.delegate(frame, delegator, delegate, contract)


def test_the_acl_answers_as_recorded() -> None:
    node = host_with_rights()
    for entry in HOST["acl"]["results"]:
        call = {"to": ETHEREUM["contracts"]["ACL"], "data": entry["calldata"]}
        assert entry["result"] == rpc(node, "eth_call", call, "latest")["result"], entry["calldata"]


@pytest.mark.parametrize("entry", HOST["acl"]["more"], ids=lambda entry: entry["what"])
def test_the_acl_denies_as_recorded(entry: dict[str, Any]) -> None:
    node = host_with_rights()
    if entry["what"].startswith("after"):
        moment, user = int(entry["result"], 16), vectors.account("user")[0]
        acl = node.chain.evm.contracts[ACL_ADDRESS]
        assert isinstance(acl, Acl)
        node.chain.evm.set_up(ACL_ADDRESS, lambda f: f.write(moment, "invalid", user))
    assert entry["result"] == rpc(node, "eth_call", entry["call"], "latest")["result"]


def test_the_base_slot_of_protocol_config_is_the_documented_one() -> None:
    assert BASE == 0x80F3585AF86806C5774303B06C1EE640AA83B6EF3E45DF49BB26C8524500C200
