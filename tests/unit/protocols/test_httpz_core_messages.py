"""What a Core of httpz-rc7 is sent: decryptions and key management, byte for byte as recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from eth_abi.abi import encode as eth_encode

from kmsconn._generated.httpz_rc7.kms import v1 as kms
from kmsconn._generated.httpz_rc7.kms.v1 import (
    CrsGenRequest,
    DecryptionRequest,
    KeyGenPreprocRequest,
    KeyGenRequest,
    ReencryptionRequest,
)
from kmsconn.config.parties import Httpz
from kmsconn.errors import Misconfigured, Rejected
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.hexes import from_hex
from kmsconn.model.life import Ciphertext
from kmsconn.model.requests import CiphertextReference, Kind
from kmsconn.protocols.core_messages import domain_message
from kmsconn.protocols.httpz_rc7.decryptions import (
    HttpzDecryption,
    HttpzPublicDecryption,
    HttpzPublicDecryptions,
)
from kmsconn.protocols.httpz_rc7.key_management import (
    HttpzCrsgen,
    HttpzKeygen,
    HttpzPrepKeygen,
    KeyRequest,
    Kskgen,
    PrepKskgen,
)
from kmsconn.protocols.httpz_rc7.profile import EVENTS, HttpzRc7
from kmsconn.protocols.port import CoreCall, Meaning
from kmsconn.protocols.protobuf import encode
from tests.vectors import httpz

TEST_PARAMETERS = from_hex("0xd61fa44c57b6e7526a46e1072d63332ab4eb38e050fe54dd51fe995f9055c354")
DEFAULT_PARAMETERS = from_hex("0x9f28225c7d0ace67fa2516bd7725f3949e9a591de0eae9db822b2cb79f38a6b0")
NAMED = {TEST_PARAMETERS: 1, DEFAULT_PARAMETERS: 0}
PROFILE = HttpzRc7(httpz.settings(httpz=Httpz(fhe_parameters=NAMED)))
REQUESTS = [*httpz.exchanges("public_decryption"), *httpz.exchanges("user_decryption")]
RECORDED = httpz.exchanges("key_management")
HANDLE = from_hex(httpz.annex()["handle_example"])
CLASSES: dict[str, Any] = {
    "Decrypt": DecryptionRequest,
    "Reencrypt": ReencryptionRequest,
    "KeyGenPreproc": KeyGenPreprocRequest,
    "KeyGen": KeyGenRequest,
    "CrsGen": CrsGenRequest,
}
every_request = pytest.mark.parametrize(("revision", "entry"), [*REQUESTS, *RECORDED], ids=httpz.name_of)


def content_of(entry: dict[str, Any]) -> HttpzDecryption | KeyRequest:
    content = EVENTS.decode(httpz.log_of(entry))
    assert isinstance(content, HttpzDecryption | KeyRequest)
    return content


def start_of(
    content: HttpzDecryption | KeyRequest,
    ciphertexts: Sequence[Ciphertext] | None = None,
    profile: HttpzRc7 = PROFILE,
) -> CoreCall:
    """Return the call that starts a request, with the ciphertexts that it names unless others are given."""
    if ciphertexts is None and isinstance(content, HttpzDecryption):
        ciphertexts = [httpz.ciphertext(reference.handle) for reference in content.references]
    [call] = profile.operations[content.kind].start_calls(content, ciphertexts or ())
    return call


def expected_bytes(entry: dict[str, Any]) -> bytes:
    """Return the recorded request; for a switching key without its domain, which the text forbids there (8.3)."""
    recorded = from_hex(entry["request"]["core_start"]["protobuf"])
    domain = bytes(encode(CrsGenRequest(domain=domain_message(kms, httpz.domain("HTTPZ")))))
    if entry["name"] != "kskgen":
        return recorded
    assert domain in recorded
    return recorded.replace(domain, b"")


@every_request
def test_start_requests_byte_for_byte_and_as_another_serialiser_reads_them(
    revision: str, entry: dict[str, Any]
) -> None:
    call = start_of(content_of(entry))
    message = bytes(call.message)
    assert (call.method, message) == (entry["request"]["core_start"]["rpc"], expected_bytes(entry))
    assert call.message.size == len(message)
    assert bytes(CLASSES[call.method].parse(message)) == message


@every_request
def test_the_result_is_asked_for_by_the_id_as_text(revision: str, entry: dict[str, Any]) -> None:
    content = content_of(entry)
    call = PROFILE.operations[content.kind].result_call(content)
    assert call is not None
    text = entry["request"]["core_start"]["request_id"].encode()
    answer = entry.get("core_answer") or entry["reply"]["core_answer"]
    assert (call.method, bytes(call.message)) == (answer["rpc"], b"\x0a\x40" + text)


def test_annex_a2_byte_for_byte() -> None:
    content = HttpzPublicDecryption(1, (CiphertextReference(HANDLE, 7, bytes(32), ()),), numeric=False)
    [call] = HttpzPublicDecryptions(
        attrs.evolve(PROFILE.deployment, manager=httpz.annex_domain())
    ).start_calls(content, [Ciphertext(HANDLE, b"\xca\xfe", 3)])
    expected = bytes.fromhex(httpz.annex()["decryption_request_protobuf"].removeprefix("0x"))
    assert bytes(call.message) == expected
    assert len(expected) == 282


def test_a_request_without_references_is_rejected() -> None:
    with pytest.raises(Rejected, match="no ciphertext"):
        start_of(HttpzPublicDecryption(1, (), numeric=False), [])


def test_only_whole_requests_are_sent() -> None:
    content = content_of(httpz.exchange("bytes32", "public_decryption", "bool_u64_address_P3"))
    assert isinstance(content, HttpzPublicDecryption)
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


def test_contents_of_the_five_events() -> None:
    found = [content_of(entry) for revision, entry in RECORDED if revision == "bytes32"]
    assert [content.kind for content in found] == [
        Kind.PREP_KEYGEN,
        Kind.KEYGEN,
        Kind.PREP_KSKGEN,
        Kind.KSKGEN,
        Kind.CRSGEN,
    ]
    assert found[1] == HttpzKeygen(3, DEFAULT_PARAMETERS)
    assert found[3] == Kskgen(1, 1, 3, TEST_PARAMETERS)


LOGGED = [
    ("PreprocessKeygenRequest", (11,), HttpzPrepKeygen(11, TEST_PARAMETERS)),
    ("KeygenRequest", (12,), HttpzKeygen(12, TEST_PARAMETERS)),
    ("PreprocessKskgenRequest", (13,), PrepKskgen(13, TEST_PARAMETERS)),
    ("KskgenRequest", (14, 15, 16), Kskgen(14, 15, 16, TEST_PARAMETERS)),
    ("CrsgenRequest", (17,), HttpzCrsgen(17, TEST_PARAMETERS)),
]


@pytest.mark.parametrize(("name", "numbers", "expected"), LOGGED)
def test_the_log_of_another_abi_library_is_read_with_each_number_in_its_place(
    name: str, numbers: tuple[int, ...], expected: KeyRequest
) -> None:
    topic0 = from_hex(httpz.abi_source()["topic0"]["KeyManager"][name]["topic0"])
    data = eth_encode(["uint256"] * len(numbers) + ["bytes32"], [*numbers, TEST_PARAMETERS])
    log = Log(httpz.address("KeyManager"), (topic0,), data, 1, bytes(32), bytes(32), 0)
    assert EVENTS.decode(log) == expected


def test_without_a_table_every_digest_means_the_default() -> None:
    call = start_of(HttpzPrepKeygen(1, TEST_PARAMETERS), profile=HttpzRc7(httpz.settings()))
    assert KeyGenPreprocRequest.parse(bytes(call.message)).params == 0


def test_a_digest_that_a_table_does_not_have_is_named() -> None:
    with pytest.raises(Misconfigured, match="aaaa are not configured"):
        start_of(HttpzPrepKeygen(1, b"\xaa" * 32))


@pytest.mark.parametrize("content", [HttpzKeygen(3, DEFAULT_PARAMETERS), Kskgen(1, 1, 3, TEST_PARAMETERS)])
def test_a_preprocessing_that_is_gone_is_uncertain_until_the_result_tells(content: KeyRequest) -> None:
    assert start_of(content).means["NOT_FOUND"] is Meaning.UNCERTAIN
    assert "NOT_FOUND" not in start_of(HttpzPrepKeygen(1, DEFAULT_PARAMETERS)).means


def test_ids_of_the_core_are_those_of_the_requests() -> None:
    call = start_of(attrs.evolve(HttpzPrepKeygen(1, DEFAULT_PARAMETERS), id=7))
    assert call.shard == 7
    request = KeyGenPreprocRequest.parse(bytes(call.message)).request_id
    assert request is not None
    assert request.request_id == "7".rjust(64, "0")
