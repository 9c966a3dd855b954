from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import CiphertextReference, Kind
from kmsconn.protocols.httpz_rc7 import public_decryption
from kmsconn.protocols.httpz_rc7.abi import KEY_MANAGER, RC4
from kmsconn.protocols.httpz_rc7.profile import EVENTS, HttpzRc7
from kmsconn.protocols.httpz_rc7.public_decryption import HttpzPublicDecryption
from kmsconn.protocols.httpz_rc7.user_decryption import HttpzUserDecryption
from tests.vectors import httpz

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


def test_the_log_of_annex_a_decodes() -> None:
    reference = CiphertextReference(HANDLE, 7, keccak256(b"hello world"), (parse_address("0x" + "aa" * 20),))
    assert EVENTS.decode(annex_log()) == HttpzPublicDecryption(1, (reference,), numeric=False)


def test_a_request_without_references_decodes() -> None:
    topics, data = public_decryption.EVENT.encode(9, ())
    found = EVENTS.decode(attrs.evolve(annex_log(), topics=topics, data=data))
    assert found == HttpzPublicDecryption(9, (), numeric=False)


def test_a_user_request_that_names_no_user_is_told_apart() -> None:
    topics, data = RC4["DecryptionManager"].event("UserDecryptionRequest").encode(1, (), b"key")
    with pytest.raises(Undecodable, match="names no user address"):
        EVENTS.decode(attrs.evolve(annex_log(), topics=topics, data=data))


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


def test_five_topics_are_listened_to() -> None:
    decryptions, _ = HttpzRc7(httpz.settings()).subscriptions()
    assert sorted(topic.hex()[:8] for topic in decryptions.topics) == [
        "06007bfb",
        "17c63219",
        "1c3dcad6",
        "39220321",
        "3cfc2aee",
    ]


def test_the_digest_changes_with_any_byte_and_not_with_the_place() -> None:
    log = annex_log()
    moved = attrs.evolve(log, block_number=5, block_hash=b"1" * 32, log_index=3)
    other = attrs.evolve(log, data=log.data[:-1] + b"\xab")
    assert EVENTS.digest(moved) == EVENTS.digest(log)
    assert EVENTS.digest(other) != EVENTS.digest(log)


def test_both_revisions_of_one_request_are_different_content() -> None:
    log = annex_log()
    numeric = attrs.evolve(log, topics=(public_decryption.NUMERIC_EVENT.topic0, *log.topics[1:]))
    first, second = EVENTS.decode(log), EVENTS.decode(numeric)
    assert isinstance(first, HttpzPublicDecryption)
    assert isinstance(second, HttpzPublicDecryption)
    assert (first.id, first.references) == (second.id, second.references)
    assert first != second
