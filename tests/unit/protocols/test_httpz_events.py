from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.logs import Log
from kmsconn.model.requests import Kind, Material
from kmsconn.protocols.httpz_rc7 import events
from kmsconn.protocols.httpz_rc7.abi import KEY_MANAGER, RC4
from kmsconn.protocols.httpz_rc7.contents import PublicDecryption, UserDecryption
from tests.vectors import httpz

PUBLIC = httpz.exchanges("public_decryption")
USER = httpz.exchanges("user_decryption")
HANDLE = bytes.fromhex("11" * 30 + "0500")


def materials(entry: dict[str, Any]) -> tuple[Material, ...]:
    return tuple(
        Material(
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
    expected = PublicDecryption(identifier, materials(entry), numeric=revision == "uint256")
    found = events.decode(httpz.log_of(entry))
    assert found == expected
    assert found.kind is Kind.PUBLIC_DECRYPTION


@pytest.mark.parametrize(("revision", "entry"), USER, ids=httpz.name_of)
def test_user_requests_of_both_revisions_decode(revision: str, entry: dict[str, Any]) -> None:
    decoded = entry["request"]["decoded"]
    expected = UserDecryption(
        int(decoded["userDecryptionId"], 16),
        materials(entry),
        revision == "uint256",
        parse_address(decoded["userAddress"]),
        from_hex(decoded["publicKey"]),
    )
    found = events.decode(httpz.log_of(entry))
    assert found == expected
    assert found.kind is Kind.USER_DECRYPTION


def test_the_log_of_annex_a_decodes() -> None:
    material = Material(HANDLE, 7, keccak256(b"hello world"), (parse_address("0x" + "aa" * 20),))
    assert events.decode(annex_log()) == PublicDecryption(1, (material,), numeric=False)


def test_a_request_without_materials_decodes() -> None:
    topics, data = events.PUBLIC.encode(9, ())
    assert events.decode(attrs.evolve(annex_log(), topics=topics, data=data)).materials == ()


def test_a_user_request_that_names_no_user_is_told_apart() -> None:
    topics, data = RC4["DecryptionManager"].event("UserDecryptionRequest").encode(1, (), b"key")
    with pytest.raises(Undecodable, match="names no user address"):
        events.decode(attrs.evolve(annex_log(), topics=topics, data=data))


@pytest.mark.parametrize("cut", [1, 32, 300])
def test_truncated_data_is_undecodable(cut: int) -> None:
    log = annex_log()
    with pytest.raises(Undecodable):
        events.decode(attrs.evolve(log, data=log.data[:-cut]))


def test_other_events_are_no_requests() -> None:
    topics, data = KEY_MANAGER.event("ActivateKeyRequest").encode(1)
    for strange in (topics, (), (bytes(32),)):
        with pytest.raises(Undecodable, match="no request event"):
            events.decode(attrs.evolve(annex_log(), topics=strange, data=data))


def test_five_topics_are_listened_to() -> None:
    assert [topic.hex()[:8] for topic in events.DECRYPTION_TOPICS] == [
        "17c63219",
        "1c3dcad6",
        "3cfc2aee",
        "39220321",
        "06007bfb",
    ]


def test_the_digest_changes_with_any_byte_and_not_with_the_place() -> None:
    log = annex_log()
    moved = attrs.evolve(log, block_number=5, block_hash=b"1" * 32, log_index=3)
    other = attrs.evolve(log, data=log.data[:-1] + b"\xab")
    assert events.content_digest(moved) == events.content_digest(log)
    assert events.content_digest(other) != events.content_digest(log)


def test_both_revisions_of_one_request_are_different_content() -> None:
    log = annex_log()
    numeric = attrs.evolve(log, topics=(events.NUMERIC_PUBLIC.topic0, *log.topics[1:]))
    first, second = events.decode(log), events.decode(numeric)
    assert (first.id, first.materials) == (second.id, second.materials)
    assert first != second
