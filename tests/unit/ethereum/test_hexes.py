from __future__ import annotations

import pytest

from kmsconn.ethereum.hexes import from_count, from_hex, from_quantity, quantity, to_hex


def test_bytes_are_written_in_lower_case_with_prefix() -> None:
    assert to_hex(b"\x00\xab") == "0x00ab"


def test_no_bytes_are_a_bare_prefix() -> None:
    assert (to_hex(b""), from_hex("0x")) == ("0x", b"")


def test_upper_case_digits_are_read() -> None:
    assert from_hex("0XAB") == b"\xab"


@pytest.mark.parametrize("text", ["", "ab", "0xa", "0xzz", "0x a", "0xab cd", "0xab ", " 0xab"])
def test_what_is_no_hex_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"hex|fromhex"):
        from_hex(text)


def test_zero_is_one_digit() -> None:
    assert quantity(0) == "0x0"


def test_a_quantity_is_not_negative() -> None:
    with pytest.raises(ValueError, match="not negative"):
        quantity(-1)


def test_leading_zeros_of_a_quantity_are_taken() -> None:
    assert from_quantity("0x00ff") == 255


@pytest.mark.parametrize("text", ["", "0x", "12", "0x-1", "0x1_0", "0x 1", "-0x1", "0xg", "0x1" + "0" * 64])
def test_what_is_no_quantity_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        from_quantity(text)


@pytest.mark.parametrize("value", [None, 7, True, ["0x00"], {"data": "0x00"}, b"0x00"])
def test_what_is_no_text_at_all_is_a_value_error_too(value: object) -> None:
    """A node's JSON may hold anything at the place of a text."""
    for read in (from_hex, from_quantity):
        with pytest.raises(ValueError, match="is a text, not a"):
            read(value)


def test_a_quantity_is_a_word_at_most() -> None:
    """A number of thousands of digits cannot even be shown: Python refuses to write it in decimals."""
    assert from_quantity("0x" + "f" * 64) == 2**256 - 1
    for digits in (65, 5_000, 1_000_000):
        with pytest.raises(ValueError, match="up to 64 hex digits"):
            from_quantity("0x" + "f" * digits)


def test_a_count_can_be_counted_on_from() -> None:
    """One more, or a few days of blocks more, still fit a column of the journal, and a float without loss."""
    assert from_count("0x1fffffffffffff") == 2**53 - 1
    for text in ("0x20000000000000", "0x7fffffffffffffff", "0x8000000000000000"):
        with pytest.raises(ValueError, match=f"no chain has reached the number {text}"):
            from_count(text)
