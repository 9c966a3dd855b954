"""Made ciphertexts, handles and attestations (fhevm-0.14.md, 4)."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn.ciphertexts.attestation import parse_attestation
from kmsconn.emulator.ciphertexts import (
    EmulatedCiphertext,
    attest,
    attestation_header,
    make_ciphertext,
    make_handle,
)
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.signing import PrivateKey
from tests import vectors

SIGNER = PrivateKey(bytes(31) + b"\x31")
VALID = vectors.load()["attestations"]["valid"]


def test_an_unknown_type_has_no_handle() -> None:
    with pytest.raises(ValueError, match="84"):
        make_handle(b"seed", chain_id=1, fhe_type=84)


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


def test_a_body_too_small_to_differ_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        make_ciphertext("a", 1, 5, chain_id=1, size=31)


def test_a_repr_does_not_hold_the_body() -> None:
    assert "<1000000 bytes>" in repr(make_ciphertext("a", 1, 5, chain_id=1, size=1_000_000))


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
