from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from kmsconn._generated.httpz_rc7.kms.v1 import DecryptionRequest, FheType, ReencryptionRequest
from kmsconn.errors import Rejected
from kmsconn.ethereum.hexes import from_hex
from kmsconn.model.requests import CiphertextReference
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.httpz_rc7.decryptions import (
    HttpzDecryption,
    HttpzPublicDecryption,
    HttpzPublicDecryptions,
    check_types,
)
from kmsconn.protocols.httpz_rc7.profile import EVENTS, HttpzRc7
from kmsconn.protocols.port import CoreCall
from tests.vectors import httpz

PROFILE = HttpzRc7(httpz.settings())
REQUESTS = [*httpz.exchanges("public_decryption"), *httpz.exchanges("user_decryption")]
HANDLE = from_hex(httpz.annex()["handle_example"])
CLASSES: dict[str, Any] = {"Decrypt": DecryptionRequest, "Reencrypt": ReencryptionRequest}
every_request = pytest.mark.parametrize(("revision", "entry"), REQUESTS, ids=httpz.name_of)


def content_of(entry: dict[str, Any]) -> HttpzDecryption:
    content = EVENTS.decode(httpz.log_of(entry))
    assert isinstance(content, HttpzDecryption)
    return content


def start_of(content: HttpzDecryption, ciphertexts: Sequence[Ciphertext]) -> CoreCall:
    [call] = PROFILE.operations[content.kind].start_calls(content, ciphertexts, None)
    return call


def start(entry: dict[str, Any]) -> CoreCall:
    content = content_of(entry)
    return start_of(content, [httpz.ciphertext(reference.handle) for reference in content.references])


@every_request
def test_start_requests_byte_for_byte(revision: str, entry: dict[str, Any]) -> None:
    call, expected = start(entry), entry["request"]["core_start"]
    assert (call.method, bytes(call.message)) == (expected["rpc"], from_hex(expected["protobuf"]))
    assert call.message.size == len(bytes(call.message))


@every_request
def test_another_serialiser_reads_the_same(revision: str, entry: dict[str, Any]) -> None:
    call = start(entry)
    assert bytes(CLASSES[call.method].parse(bytes(call.message))) == bytes(call.message)


@every_request
def test_the_result_is_asked_for_by_the_id_as_text(revision: str, entry: dict[str, Any]) -> None:
    call = PROFILE.operations[content_of(entry).kind].result_call(content_of(entry))
    assert call is not None
    text = entry["request"]["core_start"]["request_id"].encode()
    assert (call.method, bytes(call.message)) == (entry["reply"]["core_answer"]["rpc"], b"\x0a\x40" + text)


def test_annex_a2_byte_for_byte() -> None:
    content = HttpzPublicDecryption(1, (CiphertextReference(HANDLE, 7, bytes(32), ()),), numeric=False)
    [call] = HttpzPublicDecryptions(
        attrs.evolve(PROFILE.deployment, manager=httpz.annex_domain())
    ).start_calls(content, [Ciphertext(HANDLE, b"\xca\xfe", 3)], None)
    expected = bytes.fromhex(httpz.annex()["decryption_request_protobuf"].removeprefix("0x"))
    assert bytes(call.message) == expected
    assert len(expected) == 282


def test_the_domain_has_its_hundred_bytes() -> None:
    parsed = DecryptionRequest.parse(bytes(start(REQUESTS[0][1]).message))
    assert parsed.domain is not None
    assert (len(parsed.domain.chain_id), parsed.domain.salt) == (32, None)
    assert parsed.domain.verifying_contract == httpz.load()["addresses"]["DecryptionManager"]


@pytest.mark.parametrize("fhe_type", range(12))
def test_the_type_of_a_ciphertext_is_byte_30_of_its_handle(fhe_type: int) -> None:
    handle = HANDLE[:30] + bytes([fhe_type, 0])
    content = HttpzPublicDecryption(1, (CiphertextReference(handle, 7, bytes(32), ()),), numeric=False)
    check_types(content)
    message = start_of(content, [Ciphertext(handle, b"x", 3)]).message
    assert DecryptionRequest.parse(bytes(message)).ciphertexts[0].fhe_type == FheType(fhe_type)


@pytest.mark.parametrize("fhe_type", [12, 83, 255])
def test_a_type_of_another_era_is_rejected_by_name(fhe_type: int) -> None:
    handle = HANDLE[:30] + bytes([fhe_type, 0])
    content = HttpzPublicDecryption(1, (CiphertextReference(handle, 7, bytes(32), ()),), numeric=False)
    with pytest.raises(Rejected, match=f"FHE type {fhe_type}"):
        check_types(content)


def test_a_request_without_references_is_rejected() -> None:
    with pytest.raises(Rejected, match="no ciphertext"):
        start_of(HttpzPublicDecryption(1, (), numeric=False), [])


def test_only_whole_requests_are_sent() -> None:
    content = content_of(httpz.exchange("bytes32", "public_decryption", "bool_u64_address_P3"))
    given = [httpz.ciphertext(reference.handle) for reference in content.references]
    for wrong in (given[:-1], given[::-1]):
        with pytest.raises(ValueError, match="not those of the request"):
            start_of(content, wrong)


def test_the_key_of_the_first_reference_is_named() -> None:
    content = content_of(httpz.exchange("bytes32", "public_decryption", "bool_u64_address_P3"))
    assert isinstance(content, HttpzPublicDecryption)
    first, *rest = content.references
    changed = attrs.evolve(content, references=(attrs.evolve(first, key_id=5), *rest))
    given = [httpz.ciphertext(reference.handle) for reference in content.references]
    key = DecryptionRequest.parse(bytes(start_of(changed, given).message)).key_id
    assert key is not None
    assert key.request_id == "5".rjust(64, "0")
