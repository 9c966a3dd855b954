"""Answers to key management: the replies and signers of the vectors, and Broken for whatever no honest Core says."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn._generated.fhevm.kms.v1 import (
    CrsGenResult,
    EpochResultResponse,
    KeyGenPreprocResult,
    KeyGenResult,
)
from kmsconn.errors import Broken, Rejected
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.protocols.fhevm.keygen import KEY_RESPONSE, key_digest
from kmsconn.protocols.protobuf import decode
from tests import vectors
from tests.vectors import keys

MESSAGES: dict[str, Any] = {
    "prep_keygen_default": KeyGenPreprocResult,
    "keygen_default": KeyGenResult,
    "crsgen_test_2048": CrsGenResult,
    "epoch_2_context_switch": EpochResultResponse,
}


def reply_of(name: str, node: int = 0) -> bytes:
    return from_hex(keys.event(name)["answers"][node]["response_bytes"])


def read(name: str, reply: bytes | None) -> Any:
    return keys.PROFILE.operations[keys.content(name).kind].read_answer(keys.content(name), reply, None)


def spoilt(name: str, spoil: Any) -> bytes:
    message: Any = decode(MESSAGES[name], reply_of(name))
    spoil(message)
    return bytes(message)


@pytest.mark.parametrize(
    ("name", "answer"), keys.answers(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_reply_is_that_which_the_contract_took(name: str, answer: dict[str, Any]) -> None:
    response = answer["response_bytes"]
    found = read(name, None if response is None else from_hex(response))
    assert found.calldata == from_hex(answer["reply"]["calldata"])
    signer, _ = vectors.account(f"signer{answer['node']}")
    assert found.signer == (None if name == "context_2_new" else signer)


@pytest.mark.parametrize("name", ["abort_keygen", "abort_crsgen", "context_1_destroyed"])
def test_what_only_ends_something_has_no_reply(name: str) -> None:
    assert read(name, None) is None


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_an_answer_that_is_cut_off_is_broken(name: str) -> None:
    with pytest.raises(Broken):
        read(name, reply_of(name)[:-1])


@pytest.mark.parametrize("name", ["prep_keygen_default", "keygen_default", "crsgen_test_2048"])
def test_an_empty_answer_is_broken(name: str) -> None:
    with pytest.raises(Broken, match="lacks an id"):
        read(name, b"")


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("prep_keygen_default", "preprocessing_id"),
        ("keygen_default", "request_id"),
        ("keygen_default", "preprocessing_id"),
        ("crsgen_test_2048", "request_id"),
    ],
)
def test_the_answer_to_something_else_is_broken(name: str, field: str) -> None:
    def spoil(message: Any) -> None:
        getattr(message, field).request_id = f"{9:064x}"

    with pytest.raises(Broken, match="names"):
        read(name, spoilt(name, spoil))


@pytest.mark.parametrize("text", ["", "0x04", "Z" * 64, "+" + "0" * 63])
def test_an_id_that_is_none_is_broken(text: str) -> None:
    def spoil(message: Any) -> None:
        message.request_id.request_id = text

    with pytest.raises(Broken, match="lacks an id"):
        read("keygen_default", spoilt("keygen_default", spoil))


@pytest.mark.parametrize("name", ["prep_keygen_default", "keygen_default", "crsgen_test_2048"])
def test_a_signature_of_another_length_is_broken(name: str) -> None:
    def spoil(message: Any) -> None:
        message.external_signature = message.external_signature[:-1]

    with pytest.raises(Broken, match="64 bytes"):
        read(name, spoilt(name, spoil))


def test_a_key_type_that_the_contract_does_not_have_is_broken() -> None:
    def spoil(message: Any) -> None:
        message.key_digests[0].key_type = "DecompressionKey"

    with pytest.raises(Broken, match="DecompressionKey"):
        read("keygen_default", spoilt("keygen_default", spoil))


def test_a_compressed_key_set_is_replied_with_its_own_number_and_signed_for_it() -> None:
    content: Any = keys.content("keygen_default")
    domain, node = keys.PROFILE.deployment.generation, PrivateKey(bytes(31) + b"\x05")
    digests = ((1, b"\x11" * 32), (3, b"\x33" * 32))
    signature = node.sign(key_digest(domain, content.prep_id, content.id, digests, content.extra_data))

    def compress(message: Any) -> None:
        for one, kind, (_, digest) in zip(
            message.key_digests, ("PublicKey", "CompressedXofKeySet"), digests, strict=True
        ):
            one.key_type, one.digest = kind, digest
        message.external_signature = signature

    answer = read("keygen_default", spoilt("keygen_default", compress))
    assert answer.signer == node.address
    assert answer.calldata == KEY_RESPONSE.encode(content.id, digests, signature)


def test_other_order_of_the_digests_is_another_signature() -> None:
    """The order is part of what is signed, so a shuffled answer recovers to nobody we know."""

    def spoil(message: Any) -> None:
        message.key_digests.reverse()

    assert read("keygen_default", spoilt("keygen_default", spoil)).signer != vectors.account("signer1")[0]


def test_a_crs_of_another_size_is_broken() -> None:
    def spoil(message: Any) -> None:
        message.max_num_bits = 1024

    with pytest.raises(Broken, match="1024 bits, not 2048"):
        read("crsgen_test_2048", spoilt("crsgen_test_2048", spoil))


@pytest.mark.parametrize("field", ["reshare_responses", "crs_responses"])
def test_an_epoch_without_key_or_crs_is_rejected(field: str) -> None:
    """No contract takes it (annex A)."""

    def spoil(message: Any) -> None:
        getattr(message, field).clear()

    with pytest.raises(Rejected, match="cannot be activated"):
        read("epoch_2_context_switch", spoilt("epoch_2_context_switch", spoil))


def test_an_epoch_signed_by_two_nodes_is_broken() -> None:
    other: Any = decode(EpochResultResponse, reply_of("epoch_2_context_switch", 1))

    def spoil(message: Any) -> None:
        message.crs_responses = other.crs_responses

    with pytest.raises(Broken, match="2 different signers"):
        read("epoch_2_context_switch", spoilt("epoch_2_context_switch", spoil))


def test_the_arrays_of_an_activation_are_in_the_order_of_the_answer() -> None:
    """The contract hashes them in their order, and all nodes must agree (2.5)."""
    answer: Any = decode(EpochResultResponse, reply_of("epoch_3_same_set"))
    assert len(answer.crs_responses) == 2
    answer.crs_responses.reverse()
    straight = read("epoch_3_same_set", reply_of("epoch_3_same_set"))
    turned = read("epoch_3_same_set", bytes(answer))
    assert turned.calldata != straight.calldata
    assert len(turned.calldata) == len(straight.calldata)
