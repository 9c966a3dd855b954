"""The signing key file that the KMS Core writes (httpz-rc7.md 5.2, A.5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.config.keyfiles import LARGEST_SIGNING_KEY_FILE, read_signing_key

KEY = bytes(31) + b"\x01"
FILE = (
    bytes.fromhex(
        "0300000000000000302e35000000000300000000000000302e310d00000000000000507269766174655369674b6579"
        "000000002000000000000000"
    )
    + KEY
)


def test_the_file_of_the_specification_holds_key_1() -> None:
    assert len(FILE) == 91
    assert read_signing_key(FILE) == KEY


def test_what_follows_the_key_is_passed_over() -> None:
    assert read_signing_key(FILE + bytes(2 * LARGEST_SIGNING_KEY_FILE)) == KEY


@pytest.mark.parametrize(
    ("at", "value", "told"),
    [
        (0, 4, "length of the version of the header"),
        (10, ord("6"), "version of the header is not 0.5"),
        (11, 1, "header's variant is 1, not 0"),
        (15, 9, "length of the version of the versioning scheme"),
        (25, ord("2"), "versioning scheme is not 0.1"),
        (26, 14, "length of the name of the type"),
        (34, ord("p"), "name of the type is not PrivateSigKey"),
        (47, 1, "version of the type is 1, not 0"),
        (51, 33, "length of the key is 33, not 32"),
    ],
)
def test_a_wrong_part_is_named(at: int, value: int, told: str) -> None:
    wrong = bytearray(FILE)
    wrong[at] = value
    with pytest.raises(ValueError, match=told):
        read_signing_key(bytes(wrong))


@pytest.mark.parametrize("size", range(len(FILE)))
def test_a_file_that_ends_early_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="the file ends within"):
        read_signing_key(FILE[:size])


@given(st.binary(max_size=200))
def test_anything_else_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"the file ends within|is not|is \d+, not"):
        read_signing_key(data)


@given(st.binary(min_size=32, max_size=32))
def test_an_error_shows_no_byte_of_the_key(key: bytes) -> None:
    with pytest.raises(ValueError, match="the file ends within the key") as refused:
        read_signing_key(FILE[:59] + key[:-1])
    assert key[:31].hex() not in str(refused.value)
