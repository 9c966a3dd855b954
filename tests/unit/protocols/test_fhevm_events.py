"""Events, functions and errors of the contracts of fhevm."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm import contracts, decryptions, user_decryption
from kmsconn.protocols.fhevm.contracts import LATER_EVENTS
from kmsconn.protocols.fhevm.decryptions import PublicDecryption
from kmsconn.protocols.fhevm.profile import EVENTS
from kmsconn.protocols.fhevm.user_decryption import LegacyUserDecryption, UnifiedUserDecryption
from tests import vectors


def event_vectors() -> list[tuple[str, str, dict[str, Any]]]:
    groups = vectors.abi_source()["event_test_vectors"]
    return [
        (contract, signature, log) for contract, logs in groups.items() for signature, log in logs.items()
    ]


@pytest.mark.parametrize(("contract", "signature", "log"), event_vectors())
def test_every_event_decodes_and_encodes_to_the_same_bytes(
    contract: str, signature: str, log: dict[str, Any]
) -> None:
    event = contracts.CONTRACTS[contract].event(signature)
    topics, data = tuple(from_hex(topic) for topic in log["topics"]), from_hex(log["data"])
    assert event.encode(*event.decode(topics, data)) == (topics, data)


def test_the_test_vectors_name_every_event() -> None:
    known = {
        (name, event.signature)
        for name, one in contracts.CONTRACTS.items()
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
    for contract in contracts.CONTRACTS.values():
        found |= {key: entry.signature for key, entry in getattr(contract, attribute).items()}
    assert found == expected


def test_the_union_of_errors_has_every_one() -> None:
    sources = (vectors.abi_source(), vectors.later_abi_source())
    assert {from_hex(key) for one in sources for key in one["errors_by_selector"]} == set(
        contracts.ALL_ERRORS
    )


def test_later_events_are_known_apart() -> None:
    assert set(contracts.LATER_EVENTS).isdisjoint(contracts.DECRYPTION.events_by_topic)
    expected = {from_hex(key) for key in vectors.abi_source()["later_events"]["events_by_topic0"]}
    assert set(contracts.LATER_EVENTS) == expected


REQUESTS = vectors.requests()
ids = pytest.mark.parametrize("entry", REQUESTS, ids=lambda entry: entry["name"])
KINDS: dict[str, Any] = {
    "public": PublicDecryption,
    "legacy_direct": LegacyUserDecryption,
    "legacy_delegated": LegacyUserDecryption,
    "unified": UnifiedUserDecryption,
}


def decode(entry: dict[str, Any]) -> Any:
    return EVENTS.decode(vectors.log_of(entry))


def log_of(event: Any, *values: Any) -> Log:
    topics, data = event.encode(*values)
    return attrs.evolve(vectors.log_of(REQUESTS[0]), topics=topics, data=data)


@ids
def test_kind_id_and_extra_data(entry: dict[str, Any]) -> None:
    content = decode(entry)
    assert isinstance(content, KINDS[entry["variant"]])
    assert content.id == int(entry["decryption_id"], 16)
    assert content.extra_data == from_hex(entry["extra_data"])
    assert content.kind is (Kind.PUBLIC_DECRYPTION if entry["kind"] == "public" else Kind.USER_DECRYPTION)


@ids
def test_references_are_the_committed_ciphertexts_in_event_order(entry: dict[str, Any]) -> None:
    known = {found["name"]: found for found in vectors.load()["ciphertexts"]}
    expected = [
        (
            from_hex(known[name]["handle"]),
            int(known[name]["key_id"], 16),
            from_hex(known[name]["sns_ciphertext_digest"]),
            tuple(from_hex(sender) for sender in known[name]["event_coprocessor_order"]),
        )
        for name in entry["handles"]
    ]
    found = [(m.handle, m.key_id, m.digest, m.coprocessors) for m in decode(entry).references]
    assert found == expected


@pytest.mark.parametrize("entry", vectors.requests("legacy_direct", "legacy_delegated", "unified"))
def test_user_and_key(entry: dict[str, Any]) -> None:
    content, expected = decode(entry), entry["decoded"]
    assert content.user == from_hex(expected["user_address"])
    assert content.public_key == vectors.hexadecimal(expected["public_key"])


@pytest.mark.parametrize("entry", vectors.requests("unified"), ids=lambda entry: entry["name"])
def test_all_that_a_unified_request_carries(entry: dict[str, Any]) -> None:
    content, expected = decode(entry), entry["decoded"]
    found = [(e.handle, e.contract, e.owner) for e in content.handles]
    fields = ("handle", "contract_address", "owner_address")
    assert found == [tuple(from_hex(given[field]) for field in fields) for given in expected["handles"]]
    assert content.allowed_contracts == tuple(from_hex(given) for given in expected["allowed_contracts"])
    assert (content.start, content.duration) == (expected["start_timestamp"], expected["duration_seconds"])
    assert content.signature == from_hex(expected["user_request_eip712"]["signature"])


@pytest.mark.parametrize("topic0", LATER_EVENTS, ids=lambda topic: topic.hex()[:8])
def test_the_recorded_logs_of_the_later_forms_decode_with_bare_references(topic0: bytes) -> None:
    given = next(
        found
        for found in vectors.abi_source()["later_events"]["event_test_vectors"]["Decryption"].values()
        if from_hex(found["topics"][0]) == topic0
    )
    topics = tuple(from_hex(topic) for topic in given["topics"])
    log = attrs.evolve(vectors.log_of(REQUESTS[0]), topics=topics, data=from_hex(given["data"]))
    content = EVENTS.decode(log)
    assert content is not None
    assert content.id == int(given["topics"][1], 16)
    assert content.references
    assert all(reference.is_bare for reference in content.references)
    assert EVENTS.digest(log) == keccak256(b"".join(topics) + log.data)


def test_a_reference_of_the_first_form_is_never_bare() -> None:
    content = EVENTS.decode(log_of(decryptions.EVENT, 7, ((bytes(32), 0, bytes(32), ()),), b""))
    assert content is not None
    assert not content.references[0].is_bare


def test_handles_that_differ_from_the_references_still_decode() -> None:
    payload = (b"\x01" * 20, b"", (), (0, 2**256 - 1), b"\xff", b"")
    content = EVENTS.decode(
        log_of(user_decryption.UNIFIED, 7, (), ((bytes(32), bytes(20), bytes(20)),), payload)
    )
    assert isinstance(content, UnifiedUserDecryption)
    assert (len(content.references), len(content.handles), content.duration) == (0, 1, 2**256 - 1)


def test_the_topics_are_those_of_the_specification() -> None:
    public = {"22db480a", "9bb088a5"}
    user = {"f9011bd6", "1f80a47b", "c71e32c8", "8ed4fab8"}
    for kind, expected in ((Kind.PUBLIC_DECRYPTION, public), (Kind.USER_DECRYPTION, user)):
        assert {topic.hex()[:8] for topic, of in EVENTS.kinds.items() if of is kind} == expected


@pytest.mark.parametrize("topics", [(), (bytes(32),)])
def test_other_events_are_undecodable(topics: tuple[bytes, ...]) -> None:
    log = attrs.evolve(vectors.log_of(REQUESTS[0]), topics=topics)
    with pytest.raises(Undecodable, match="no request event"):
        EVENTS.decode(log)


@pytest.mark.parametrize("name", ["public_one_v0", "user_legacy_direct_v0", "user_unified_own_v0"])
def test_every_truncation_and_extension_is_undecodable(name: str) -> None:
    log = vectors.log_of(vectors.request(name))
    for size in range(0, len(log.data), 7):
        with pytest.raises(Undecodable):
            EVENTS.decode(attrs.evolve(log, data=log.data[:size]))
    with pytest.raises(Undecodable):
        EVENTS.decode(attrs.evolve(log, data=log.data + bytes(32)))


def test_the_digest_tells_contents_and_ids_apart_and_does_not_depend_on_the_place() -> None:
    assert len({EVENTS.digest(vectors.log_of(entry)) for entry in REQUESTS}) == len(REQUESTS) == 29
    log = vectors.log_of(REQUESTS[0])
    elsewhere = attrs.evolve(
        log, block_number=9, block_hash=bytes(32), transaction_hash=bytes(32), log_index=5
    )
    assert EVENTS.digest(log) == EVENTS.digest(elsewhere)
    assert EVENTS.digest(log) != EVENTS.digest(attrs.evolve(log, topics=(log.topics[0], bytes(32))))


def test_what_cannot_be_read_is_told_each_time() -> None:
    log = attrs.evolve(log_of(decryptions.EVENT, 1 << 248, (), b""), data=b"")
    for _ in range(2):
        with pytest.raises(Undecodable):
            EVENTS.decode(log)
