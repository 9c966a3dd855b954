"""Events, functions and errors of the contracts of httpz-rc7."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Abi, Log
from kmsconn.ethereum.addresses import parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import CiphertextReference, Kind
from kmsconn.protocols.httpz_rc7 import contracts, decryptions
from kmsconn.protocols.httpz_rc7.contracts import KEY_MANAGER
from kmsconn.protocols.httpz_rc7.decryptions import HttpzPublicDecryption, HttpzUserDecryption
from kmsconn.protocols.httpz_rc7.profile import EVENTS, OPERATIONS, HttpzRc7
from kmsconn.protocols.port import Revert, Verdict
from tests.vectors import httpz

REVISIONS: dict[str, dict[str, Abi]] = {
    "main": contracts.CONTRACTS,
    "rc4": contracts.RC4,
    "rc7": contracts.RC7,
    "rc9_getters": {"HTTPZ": contracts.RC9},
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
            assert contracts.CONTRACTS[contract].event(name).indexed == tuple(
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
    found = contracts.ALL_ERRORS.get(from_hex(selector))
    assert (found and found.name) == name


@pytest.mark.parametrize("revision", httpz.REVISIONS)
def test_every_recorded_log_decodes_and_encodes_to_the_same_bytes(revision: str) -> None:
    known = contracts.CONTRACTS if revision == "bytes32" else contracts.RC7
    events = {topic: event for one in known.values() for topic, event in one.events_by_topic.items()}
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


PUBLIC = httpz.exchanges("public_decryption")
USER = httpz.exchanges("user_decryption")
HANDLE = bytes.fromhex("11" * 30 + "0500")


def references(entry: dict[str, Any]) -> tuple[CiphertextReference, ...]:
    return tuple(
        CiphertextReference(
            from_hex(one["ctHandle"]),
            int(one["keyId"], 16),
            from_hex(one["snsCiphertextDigest"]),
            tuple(parse_address(sender) for sender in one["coprocessorTxSenderAddresses"]),
        )
        for one in entry["request"]["decoded"]["snsCtMaterials"]
    )


def annex_log() -> Log:
    """Return the log of annex A.1."""
    vector = httpz.annex()["public_decryption_request_log"]
    topics = tuple(from_hex(topic) for topic in vector["topics"])
    return Log(
        httpz.address("DecryptionManager"), topics, from_hex(vector["data"]), 1, bytes(32), bytes(32), 0
    )


@pytest.mark.parametrize(("revision", "entry"), PUBLIC, ids=httpz.name_of)
def test_public_requests_of_both_revisions_decode(revision: str, entry: dict[str, Any]) -> None:
    identifier = int(entry["request"]["decoded"]["publicDecryptionId"], 16)
    expected = HttpzPublicDecryption(identifier, references(entry), numeric=revision == "uint256")
    found = EVENTS.decode(httpz.log_of(entry))
    assert found == expected
    assert found.kind is Kind.PUBLIC_DECRYPTION


@pytest.mark.parametrize(("revision", "entry"), USER, ids=httpz.name_of)
def test_user_requests_of_both_revisions_decode(revision: str, entry: dict[str, Any]) -> None:
    decoded = entry["request"]["decoded"]
    expected = HttpzUserDecryption(
        int(decoded["userDecryptionId"], 16),
        references(entry),
        revision == "uint256",
        parse_address(decoded["userAddress"]),
        from_hex(decoded["publicKey"]),
    )
    found = EVENTS.decode(httpz.log_of(entry))
    assert found == expected
    assert found is not None
    assert found.kind is Kind.USER_DECRYPTION


def test_the_log_of_annex_a_decodes_and_a_request_without_references() -> None:
    reference = CiphertextReference(HANDLE, 7, keccak256(b"hello world"), (parse_address("0x" + "aa" * 20),))
    assert EVENTS.decode(annex_log()) == HttpzPublicDecryption(1, (reference,), numeric=False)
    topics, data = decryptions.PUBLIC_EVENT.encode(9, ())
    found = EVENTS.decode(attrs.evolve(annex_log(), topics=topics, data=data))
    assert found == HttpzPublicDecryption(9, (), numeric=False)


@pytest.mark.parametrize("cut", [1, 32, 300])
def test_truncated_data_is_undecodable(cut: int) -> None:
    log = annex_log()
    with pytest.raises(Undecodable):
        EVENTS.decode(attrs.evolve(log, data=log.data[:-cut]))


def test_other_events_are_no_requests() -> None:
    topics, data = KEY_MANAGER.event("ActivateKeyRequest").encode(1)
    for strange in (topics, (), (bytes(32),)):
        with pytest.raises(Undecodable, match="no request event"):
            EVENTS.decode(attrs.evolve(annex_log(), topics=strange, data=data))


def test_the_digest_changes_with_any_byte_and_not_with_the_place() -> None:
    log = annex_log()
    moved = attrs.evolve(log, block_number=5, block_hash=b"1" * 32, log_index=3)
    other = attrs.evolve(log, data=log.data[:-1] + b"\xab")
    assert EVENTS.digest(moved) == EVENTS.digest(log)
    assert EVENTS.digest(other) != EVENTS.digest(log)


def test_both_revisions_of_one_request_are_different_content() -> None:
    log = annex_log()
    numeric = attrs.evolve(log, topics=(decryptions.NUMERIC_PUBLIC_EVENT.topic0, *log.topics[1:]))
    first, second = EVENTS.decode(log), EVENTS.decode(numeric)
    assert isinstance(first, HttpzPublicDecryption)
    assert isinstance(second, HttpzPublicDecryption)
    assert (first.id, first.references) == (second.id, second.references)
    assert first != second


NAMED = ("DecryptionManager", "KeyManager")
FUNCTIONS = {
    function.selector: function.name
    for contract in NAMED
    for function in contracts.CONTRACTS[contract].functions_by_selector.values()
}
ROWS = {row.reply.name: row for row in OPERATIONS}
VERDICTS = {name: row.verdicts for name, row in ROWS.items()}
PROFILE = HttpzRc7(httpz.settings())
DONE = {name for table in VERDICTS.values() for name, verdict in table.items() if verdict is Verdict.DONE}


def read(function: str, data: bytes | None) -> Revert:
    return PROFILE.operations[ROWS[function].kind].revert(data)


def cases() -> list[tuple[str, dict[str, Any]]]:
    """Return the recorded reverts of replies that a node sends."""
    return [
        (revision, case)
        for revision in httpz.REVISIONS
        for case in httpz.load()[revision]["reverts"]["cases"]
        if FUNCTIONS.get(from_hex(case["calldata"])[:4]) in VERDICTS
    ]


@pytest.mark.parametrize(("revision", "case"), cases(), ids=httpz.name_of)
def test_recorded_reverts_have_name_arguments_and_verdict(revision: str, case: dict[str, Any]) -> None:
    function = FUNCTIONS[from_hex(case["calldata"])[:4]]
    found = read(function, from_hex(case["eth_call_error"].get("data", "0x")))
    expected = case.get("error_arguments") or []
    assert [int(text, 0) for text in found.arguments] == [int(str(argument), 0) for argument in expected]
    if case["error_signature"] is None:
        assert found.verdict is Verdict.RETRY
        return
    name = case["error_signature"].split("(")[0]
    assert (found.name, found.verdict) == (name, Verdict.DONE if name in DONE else Verdict.FINAL)


def test_every_reply_function_and_every_final_or_done_error_is_recorded() -> None:
    seen = {FUNCTIONS[from_hex(case["calldata"])[:4]] for _, case in cases()}
    assert seen == set(VERDICTS)
    names = {case["error_signature"].split("(")[0] for _, case in cases() if case["error_signature"]}
    assert names == {name for table in VERDICTS.values() for name in table}
    assert names <= {error.name for error in contracts.ALL_ERRORS.values()}


@pytest.mark.parametrize("data", [None, b"", b"\x01", bytes.fromhex("deadbeef")])
def test_what_is_not_known_is_tried_again(data: bytes | None) -> None:
    assert read("keygenResponse", data).verdict is Verdict.RETRY
