"""Made ciphertexts, handles and attestations (fhevm-0.14.md, 4)."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.ciphertexts.attestation import StoredFormat, is_genuine, parse_attestation
from kmsconn.emulator.ciphertexts import (
    EmulatedCiphertext,
    attest,
    attestation_header,
    make_ciphertext,
    make_handle,
    sign_attestation,
)
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.ids import Handle
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey
from tests import vectors

SIGNER = PrivateKey(bytes(31) + b"\x31")
VALID = vectors.load()["attestations"]["valid"]


def test_a_handle_has_the_layout_of_the_specification() -> None:
    handle = make_handle(b"seed", chain_id=12345, fhe_type=5, index=3)
    assert handle == keccak256(b"seed")[:21] + b"\3" + (12345).to_bytes(8) + b"\5\0"


def test_a_handle_parses_back() -> None:
    parsed = Handle.parse(make_handle(b"seed", chain_id=2**63, fhe_type=83, index=255, version=1))
    assert (parsed.chain_id, parsed.fhe_type, parsed.index, parsed.version) == (2**63, 83, 255, 1)


def test_an_unknown_type_has_no_handle() -> None:
    with pytest.raises(ValueError, match="84"):
        make_handle(b"seed", chain_id=1, fhe_type=84)


def test_a_ciphertext_is_the_same_every_time() -> None:
    assert make_ciphertext("a", 7, 2, chain_id=1) == make_ciphertext("a", 7, 2, chain_id=1)


def test_label_value_and_chain_make_another_ciphertext() -> None:
    made = {
        (each.handle, each.body)
        for each in (
            make_ciphertext("a", 7, 2, chain_id=1),
            make_ciphertext("b", 7, 2, chain_id=1),
            make_ciphertext("a", 8, 2, chain_id=1),
            make_ciphertext("a", 7, 2, chain_id=2),
        )
    }
    assert len({handle for handle, _ in made}) == len({body for _, body in made}) == 4


@pytest.mark.parametrize("size", [32, 256, 1_000_000])
def test_a_body_has_the_size_asked_for(size: int) -> None:
    assert len(make_ciphertext("a", 1, 5, chain_id=1, size=size).body) == size


def test_a_body_too_small_to_differ_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        make_ciphertext("a", 1, 5, chain_id=1, size=31)


def test_a_value_beyond_its_type_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        make_ciphertext("a", 256, 2, chain_id=1)


def test_the_digest_is_that_of_the_body() -> None:
    made = make_ciphertext("a", 1, 5, chain_id=1)
    assert made.digest == keccak256(made.body)


def test_a_repr_does_not_hold_the_body() -> None:
    assert "<1000000 bytes>" in repr(make_ciphertext("a", 1, 5, chain_id=1, size=1_000_000))


@pytest.mark.parametrize("stored", StoredFormat)
def test_an_attestation_is_genuine_and_parses_back(stored: StoredFormat) -> None:
    made = make_ciphertext("a", 1, 5, chain_id=1)
    attestation = attest(made, key_id=4 << 248, stored=stored, signer=SIGNER)
    assert is_genuine(made.handle, attestation)
    assert parse_attestation(attestation_header(attestation)) == attestation


def test_a_lie_can_be_signed_too() -> None:
    made = make_ciphertext("a", 1, 5, chain_id=1)
    honest = attest(made, key_id=1, stored=StoredFormat.COMPRESSED_ON_CPU, signer=SIGNER)
    lie = sign_attestation(made.handle, attrs.evolve(honest, sns_ciphertext_digest=bytes(32)), SIGNER)
    assert is_genuine(made.handle, lie)
    assert lie.signature != honest.signature


@pytest.mark.parametrize(
    "valid", VALID, ids=[f"{each['ciphertext']}-{each['coprocessor']}" for each in VALID]
)
def test_a_header_of_the_vectors_is_made_again_byte_for_byte(valid: dict[str, Any]) -> None:
    (published,) = [each for each in vectors.load()["ciphertexts"] if each["name"] == valid["ciphertext"]]
    key = vectors.load()["environment"]["keys"][f"cop_signer{valid['coprocessor']}"]["private_key"]
    ciphertext = EmulatedCiphertext(
        from_hex(published["handle"]),
        published["fhe_type"],
        int(published["plaintext_value"], 16),
        from_hex(published["body"]),
        from_hex(published["ciphertext_digest"]),
    )
    attestation = attest(
        ciphertext,
        key_id=int(published["key_id"], 16),
        stored=parse_attestation(valid["header"]).format,
        signer=PrivateKey.parse(key),
    )
    assert attestation_header(attestation) == valid["header"]
