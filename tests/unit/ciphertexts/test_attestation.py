"""Attestations: every vector there is, and the laws behind them."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from kmsconn.ciphertexts.attestation import (
    ATTESTATION_HEADER,
    BIG_COMPRESSED,
    BIG_EXPANDED,
    COPROCESSOR_CONTEXT_ID,
    FORMAT_HEADER,
    Attestation,
    StoredFormat,
    ciphertext_format,
    consensus,
    is_genuine,
    parse_attestation,
    signed_bytes,
    signed_digest,
)
from kmsconn.emulator.ciphertexts import sign_attestation
from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.signing import PrivateKey
from tests.faults.hostile.connections import METADATA
from tests.vectors import load

GROUP: dict[str, Any] = load()["attestations"]
VALID = [pytest.param(case, id=f"{case['ciphertext']} {case['coprocessor']}") for case in GROUP["valid"]]
VARIANTS = [pytest.param(case, id=case["name"]) for case in GROUP["variants"]]
CONSENSUS = [pytest.param(case, id=case["name"]) for case in GROUP["consensus"]]

HANDLE = bytes(range(32))
KEYS = [PrivateKey(bytes(31) + bytes([n])) for n in range(1, 6)]
SIGNERS = frozenset(key.address for key in KEYS)


def attested(key: PrivateKey, **changes: Any) -> Attestation:
    """Return what a coprocessor says, signed."""
    plain = Attestation(7, bytes(32), b"\x01" * 32, StoredFormat.COMPRESSED_ON_CPU, key.address, b"")
    return sign_attestation(HANDLE, attrs.evolve(plain, **changes), key)


# The vectors.


def test_there_are_as_many_vectors_as_the_specification_says() -> None:
    assert [len(GROUP[name]) for name in ("valid", "variants", "consensus")] == [13, 27, 7]
    assert (GROUP["header_name"], GROUP["coprocessor_context_id"]) == (
        ATTESTATION_HEADER,
        COPROCESSOR_CONTEXT_ID,
    )


@pytest.mark.parametrize("case", VALID)
def test_a_valid_one_is_read_hashed_and_verified(case: dict[str, Any]) -> None:
    attestation, handle = parse_attestation(case["header"]), from_hex(case["handle"])
    assert signed_bytes(handle, attestation) == from_hex(case["signed_bytes"])
    assert signed_digest(handle, attestation) == from_hex(case["digest"])
    assert attestation.signature == from_hex(case["signature"])
    assert attestation.signer == parse_address(case["signer"])
    assert is_genuine(handle, attestation)


@pytest.mark.parametrize("case", VARIANTS)
def test_a_variant_is_read_or_not_and_verifies_or_not(case: dict[str, Any]) -> None:
    try:
        attestation = parse_attestation(case["header"])
    except Undecodable:
        attestation = None
    assert (attestation is not None) == case["parses"]
    assert (attestation is not None and is_genuine(from_hex(case["handle"]), attestation)) == case["verifies"]
    assert ciphertext_format({ATTESTATION_HEADER: case["header"]}) == case["ciphertext_format"]


@pytest.mark.parametrize("case", CONSENSUS)
def test_a_quorum_is_found_as_in_the_vectors(case: dict[str, Any]) -> None:
    registered = frozenset(parse_address(entry["signer"]) for entry in GROUP["valid"])
    found = consensus(
        from_hex(case["handle"]),
        [parse_attestation(header) for header in case["headers"]],
        registered,
        case["threshold"],
    )
    assert (shown(found[0]) if found else None) == case["winner"]


def shown(found: Attestation) -> dict[str, str]:
    """Return a winner's claim as the vectors write it."""
    return {
        "key_id": hex(found.key_id),
        "ciphertext_digest": "0x" + found.ciphertext_digest.hex(),
        "sns_ciphertext_digest": "0x" + found.sns_ciphertext_digest.hex(),
        "format": found.format.name.lower(),
    }


@pytest.mark.parametrize("field", ["ciphertext_digest", "signer", "signature"])
@pytest.mark.parametrize("wrong", [" {}", "{} ", "0x {}", "0x_{}"])
def test_hex_with_anything_between_is_undecodable(field: str, wrong: str) -> None:
    content = json.loads(GROUP["valid"][0]["header"])
    digits = content[field].removeprefix("0x")
    with pytest.raises(Undecodable):
        parse_attestation(json.dumps({**content, field: wrong.format(digits)}))


# The laws.


@pytest.mark.parametrize("field", ["key_id", "ciphertext_digest", "sns_ciphertext_digest", "format"])
def test_every_field_is_signed(field: str) -> None:
    others: dict[str, Any] = {
        "key_id": 8,
        "ciphertext_digest": b"\x02" * 32,
        "sns_ciphertext_digest": b"\x02" * 32,
        "format": StoredFormat.UNCOMPRESSED_ON_CPU,
    }
    genuine = attested(KEYS[0])
    assert is_genuine(HANDLE, genuine)
    assert not is_genuine(bytes(32), genuine), "the handle is signed, too"
    assert not is_genuine(HANDLE, attrs.evolve(genuine, **{field: others[field]}))


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "7", '"x"', "\x00", "{" * 2000])
def test_what_is_no_attestation_is_undecodable(text: str) -> None:
    with pytest.raises(Undecodable, match="attestation header"):
        parse_attestation(text)


@pytest.mark.parametrize("key_id", ["0x1" + "0" * 64, "7", "0x", "", "-0x1", "0x_1"])
def test_a_key_id_that_is_none_is_undecodable(key_id: str) -> None:
    content = json.loads(GROUP["valid"][0]["header"])
    with pytest.raises(Undecodable):
        parse_attestation(json.dumps({**content, "key_id": key_id}))


@pytest.mark.parametrize("stored", StoredFormat)
@pytest.mark.parametrize("attestation", [None, "no attestation"])
def test_without_an_attestation_the_format_header_counts(
    stored: StoredFormat, attestation: str | None
) -> None:
    headers = {FORMAT_HEADER: stored.name.lower()}
    if attestation is not None:
        headers[ATTESTATION_HEADER] = attestation
    assert ciphertext_format(headers) == (
        BIG_COMPRESSED if stored.name.startswith("COMPRESSED") else BIG_EXPANDED
    )


@pytest.mark.parametrize("headers", [{}, {FORMAT_HEADER: ""}, {FORMAT_HEADER: "COMPRESSED_ON_CPU"}])
def test_an_object_that_says_nothing_is_expanded(headers: dict[str, str]) -> None:
    assert ciphertext_format(headers) == BIG_EXPANDED


ALONE = attested(KEYS[0], key_id=1)
TWO = [attested(key, key_id=9) for key in KEYS[1:3]]


@pytest.mark.parametrize(
    ("said", "signers", "threshold", "winners"),
    [
        pytest.param([], SIGNERS, 1, [], id="nobody"),
        pytest.param(TWO, frozenset({KEYS[1].address}), 2, [], id="a stranger"),
        pytest.param([ALONE, *TWO], SIGNERS, 1, TWO, id="the larger group wins over the smaller claim"),
        pytest.param([ALONE, *TWO], SIGNERS, 3, [], id="a larger group below the threshold"),
    ],
)
def test_a_quorum_is_of_registered_signers_that_say_the_same(
    said: list[Attestation], signers: frozenset[Address], threshold: int, winners: list[Attestation]
) -> None:
    assert consensus(HANDLE, said, signers, threshold) == tuple(winners)


@pytest.mark.parametrize("count", range(1, 6))
def test_a_quorum_needs_the_threshold(count: int) -> None:
    said = [attested(key) for key in KEYS[:count]]
    assert consensus(HANDLE, said, SIGNERS, 3) == (tuple(said) if count >= 3 else ())


def test_the_order_of_asking_does_not_matter() -> None:
    said = [attested(key, key_id=1 + n % 2) for n, key in enumerate(KEYS[:4])]
    winners = {
        found.claim
        for order in (said, said[::-1], said[2:] + said[:2])
        for found in consensus(HANDLE, order, SIGNERS, 2)
    }
    assert winners == {attested(KEYS[0], key_id=1).claim}


@pytest.mark.parametrize("depth", [500, 5_000, 16_000])
@pytest.mark.parametrize("closed", [True, False])
def test_a_header_nested_however_deep_is_none(depth: int, closed: bool) -> None:
    """A header has room for 16,000 brackets: the error of the recursion quarantined the request, and ended the shadow."""
    text = '{"x":' + "[" * depth + ("]" * depth + "}" if closed else "")
    with pytest.raises(Undecodable):
        parse_attestation(text)
    assert ciphertext_format({ATTESTATION_HEADER: text}) == BIG_EXPANDED


@pytest.mark.parametrize("headers", METADATA.values(), ids=METADATA)
def test_whatever_a_bucket_writes_into_the_header_is_told(headers: dict[str, str]) -> None:
    """What nests deeply ends the reader of JSON itself on some Pythons, and was no error of ours."""
    with pytest.raises(Undecodable):
        parse_attestation(headers.get(ATTESTATION_HEADER, ""))
    assert ciphertext_format(headers) == BIG_EXPANDED
