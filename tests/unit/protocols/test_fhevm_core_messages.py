from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn._generated.fhevm.kms.v1 import PublicDecryptionRequest, UserDecryptionRequest
from kmsconn.errors import Rejected
from kmsconn.ethereum.hexes import from_hex
from kmsconn.model.requests import CiphertextReference
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.port import CoreCall
from tests import vectors

PROFILE = Fhevm(vectors.vector_settings())
ids = pytest.mark.parametrize("entry", vectors.requests(), ids=lambda entry: entry["name"])


def content_of(entry: dict[str, Any]) -> Any:
    return PROFILE.decode(vectors.log_of(entry))


def start(content: Any, ciphertexts: list[Ciphertext] | None = None) -> CoreCall:
    given = ciphertexts or [vectors.ciphertext(reference.handle) for reference in content.references]
    return PROFILE.operations[content.kind].start_calls(content, given, None)[0]


@ids
def test_start_requests_byte_for_byte(entry: dict[str, Any]) -> None:
    call = start(content_of(entry))
    assert bytes(call.message) == vectors.asking_for_ecdsa(call.method, entry["core"]["request_bytes"])
    assert call.message.size == len(bytes(call.message))


@ids
def test_start_requests_go_to_their_method_and_endpoint(entry: dict[str, Any]) -> None:
    call = start(content_of(entry))
    assert call.method == entry["core"]["start_rpc"]
    assert call.shard is not None
    assert {n: call.shard % int(n) for n in entry["core"]["endpoint_index"]} == entry["core"][
        "endpoint_index"
    ]


@ids
def test_polls_byte_for_byte(entry: dict[str, Any]) -> None:
    content = content_of(entry)
    call = PROFILE.operations[content.kind].result_call(content)
    assert call is not None
    assert (call.method, bytes(call.message)) == (
        entry["core"]["result_rpc"],
        from_hex(entry["core"]["poll_bytes"]),
    )
    assert call.shard == start(content).shard


@ids
def test_another_serialiser_reads_the_same(entry: dict[str, Any]) -> None:
    kind = PublicDecryptionRequest if entry["kind"] == "public" else UserDecryptionRequest
    raw = bytes(start(content_of(entry)).message)
    assert bytes(kind.parse(raw)) == raw


def test_large_bodies_are_spliced_and_not_copied() -> None:
    content = content_of(vectors.request("public_four_v2_two_chains_repeated_handle"))
    large = [
        Ciphertext(reference.handle, bytes(1_000_000 + n), 3)
        for n, reference in enumerate(content.references)
    ]
    message = start(content, large).message
    assert [part for part in message.parts if len(part) > 1000] == [entry.body for entry in large]
    assert all(any(part is entry.body for part in message.parts) for entry in large)
    parsed = PublicDecryptionRequest.parse(bytes(message))
    assert [entry.ciphertext for entry in parsed.ciphertexts] == [entry.body for entry in large]


def test_no_bytes_of_a_ciphertext_are_left_out_like_any_default() -> None:
    content = content_of(vectors.request("public_one_v0"))
    message = start(content, [Ciphertext(content.references[0].handle, b"", 0)]).message
    (entry,) = PublicDecryptionRequest.parse(bytes(message)).ciphertexts
    assert bytes(entry) in bytes(message)
    assert entry.ciphertext == b""


def test_a_request_without_references_is_rejected() -> None:
    content = attrs.evolve(content_of(vectors.request("public_one_v0")), references=())
    with pytest.raises(Rejected, match="no ciphertext"):
        PROFILE.operations[content.kind].start_calls(content, [], None)[0]


def test_other_ciphertexts_than_the_references_are_refused() -> None:
    content = content_of(vectors.request("public_three_v0"))
    wrong = [vectors.ciphertext(reference.handle) for reference in reversed(content.references)]
    for given in (wrong, wrong[:2]):
        with pytest.raises(ValueError, match="not those of the request"):
            PROFILE.operations[content.kind].start_calls(content, given, None)[0]


def test_the_domain_is_the_configured_one() -> None:
    settings = vectors.vector_settings()
    contract = attrs.evolve(settings.protocol.decryption_contract, domain_name="Other", domain_version="2")
    profile = Fhevm(settings.but(decryption_contract=contract))
    content = content_of(vectors.request("public_one_v0"))
    call = profile.operations[content.kind].start_calls(
        content, [vectors.ciphertext(content.references[0].handle)], None
    )[0]
    domain = PublicDecryptionRequest.parse(bytes(call.message)).domain
    assert domain is not None
    assert (domain.name, domain.version, domain.salt) == ("Other", "2", None)


# Requests that name handles only.


def bare(content: Any) -> Any:
    return attrs.evolve(
        content, references=tuple(CiphertextReference.bare(one.handle) for one in content.references)
    )


@ids
def test_a_request_of_the_later_form_is_the_same_to_the_core(entry: dict[str, Any]) -> None:
    content: Any = content_of(entry)
    found = [attrs.evolve(vectors.ciphertext(one.handle), key_id=one.key_id) for one in content.references]
    assert bytes(start(bare(content), found).message) == bytes(start(content).message)


def test_handles_for_which_the_chain_names_different_keys_are_rejected() -> None:
    content: Any = content_of(vectors.request("public_three_v0"))
    *rest, last = content.references
    other = attrs.evolve(last, key_id=last.key_id + 1)
    with pytest.raises(Rejected, match="different keys"):
        start(attrs.evolve(content, references=(*rest, other)))


def test_handles_under_different_keys_are_rejected() -> None:
    content: Any = content_of(vectors.request("public_three_v0"))
    found = [
        attrs.evolve(vectors.ciphertext(one.handle), key_id=1 + place)
        for place, one in enumerate(content.references)
    ]
    with pytest.raises(Rejected, match="different keys"):
        start(bare(content), found)
