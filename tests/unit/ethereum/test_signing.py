from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.ethereum.signing import PrivateKey, is_canonical, recover, recoverable
from tests import vectors

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
KEY = PrivateKey((0x41).to_bytes(32))
DIGEST = bytes(range(32))
SIGNATURE = KEY.sign(DIGEST)


def with_v(v: int) -> bytes:
    return SIGNATURE[:64] + bytes([v])


def high_s() -> bytes:
    s = ORDER - int.from_bytes(SIGNATURE[32:64])
    return SIGNATURE[:32] + s.to_bytes(32) + bytes([55 - SIGNATURE[64]])


@pytest.mark.parametrize("name", sorted(vectors.load()["environment"]["keys"]))
def test_addresses_of_the_vector_keys(name: str) -> None:
    address, secret = vectors.account(name)
    assert address == PrivateKey(secret).address


def test_a_key_is_read_with_and_without_prefix() -> None:
    digits = "00" * 31 + "41"
    assert PrivateKey.parse(digits).address == PrivateKey.parse(f"0x{digits}\n").address == KEY.address


def test_the_public_key_is_compressed() -> None:
    generator = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    assert generator == PrivateKey((1).to_bytes(32)).public_key.hex()


@pytest.mark.parametrize("text", ["", "12", "zz" * 32, "00" * 32, f"{ORDER:064x}", "ff" * 32, "11" * 33])
def test_what_is_no_key_is_refused_without_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="private key") as caught:
        PrivateKey.parse(text)
    assert not text or text not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_representation_holds_the_secret() -> None:
    key = PrivateKey(b"\xab" * 32)
    assert "abab" not in repr(key) + str(key) + str(vars(key).values())


def test_a_signature_is_low_s_with_v_27_or_28_and_always_the_same() -> None:
    assert is_canonical(SIGNATURE)
    assert KEY.sign(DIGEST) == SIGNATURE


def test_only_digests_are_signed_and_recovered() -> None:
    with pytest.raises(ValueError, match=r".+"):
        KEY.sign(b"short")
    with pytest.raises(ValueError, match="32 bytes"):
        recover(b"short", SIGNATURE)


@pytest.mark.parametrize("base", [0, 27, 35, 37, 253])
def test_v_forms_that_recover(base: int) -> None:
    assert recover(DIGEST, with_v(base + SIGNATURE[64] - 27)) == KEY.address


@pytest.mark.parametrize("v", [2, 3, 4, 26, 29, 34])
def test_v_forms_that_do_not(v: int) -> None:
    assert recover(DIGEST, with_v(v)) is None


def test_high_s_recovers_but_is_not_canonical() -> None:
    assert recover(DIGEST, high_s()) == KEY.address
    assert not is_canonical(high_s())


@pytest.mark.parametrize("v", [0, 1, 26, 29, 35])
def test_contracts_take_only_v_27_and_28(v: int) -> None:
    assert not is_canonical(with_v(v))


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        SIGNATURE[:64],
        SIGNATURE + b"\0",
        bytes(64) + b"\x1b",
        b"\xff" * 64 + b"\x1b",
        bytes(32) + SIGNATURE[32:],
        SIGNATURE[:32] + bytes(32) + SIGNATURE[64:],
    ],
)
def test_what_is_no_signature_recovers_nothing(signature: bytes) -> None:
    assert recover(DIGEST, signature) is None


@given(st.binary(min_size=32, max_size=32), st.booleans())
def test_a_foreign_signature_becomes_the_canonical_one_of_its_key(digest: bytes, high: bool) -> None:
    key = PrivateKey.parse("33" * 32)
    signature = key.sign(digest)
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:64])
    assert recoverable(digest, r, ORDER - s if high else s, key.address) == signature


@pytest.mark.parametrize(("r", "s"), [(0, 1), (1, 0), (ORDER, 1), (1, ORDER), (-1, 1), (2**256, 2**256)])
def test_numbers_out_of_range_are_no_signature(r: int, s: int) -> None:
    assert recoverable(bytes(32), r, s, PrivateKey.parse("33" * 32).address) is None


def test_a_signature_of_another_key_is_not_taken_for_ours() -> None:
    signature = PrivateKey.parse("33" * 32).sign(bytes(32))
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:64])
    assert recoverable(bytes(32), r, s, PrivateKey.parse("44" * 32).address) is None
