from __future__ import annotations

import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum import rlp
from kmsconn.ethereum.hexes import from_count, from_hex, from_quantity, quantity, to_hex
from kmsconn.ethereum.ids import FHE_TYPES, PLAINTEXT_BITS, chain_id_of, fhe_type_of
from tests import vectors


def test_bytes_and_quantities_are_written_in_lower_case_with_prefix_and_read_in_either() -> None:
    assert (to_hex(b"\x00\xab"), to_hex(b"")) == ("0x00ab", "0x")
    assert (from_hex("0XAB"), from_hex("0x")) == (b"\xab", b"")
    assert (quantity(0), from_quantity("0x00ff")) == ("0x0", 255)


@pytest.mark.parametrize("text", ["", "ab", "0xa", "0xzz", "0x a", "0xab cd", "0xab ", " 0xab"])
def test_what_is_no_hex_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"hex|Odd-length"):
        from_hex(text)


def test_hex_text_of_another_size_is_a_value_error() -> None:
    assert from_hex("0xab", 1) == b"\xab"
    with pytest.raises(ValueError, match="of 2 bytes is expected, not of 1"):
        from_hex("0xab", 2)


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


B6 = bytes.fromhex("5a88e7aa46f312ff70df6e84c85eb40cdfd42b18a9ff00000000000030390500")


def test_a_handle_is_taken_apart() -> None:
    """B.6 of the specification, and a chain id that fills its eight bytes."""
    assert (chain_id_of(B6), fhe_type_of(B6)) == (12345, 5)
    assert chain_id_of(bytes(22) + b"\xff" * 8 + b"\0\0") == 2**64 - 1


@pytest.mark.parametrize("entry", vectors.load()["ciphertexts"], ids=lambda entry: entry["name"])
def test_handles_of_the_vectors(entry: dict[str, object]) -> None:
    handle = vectors.hexadecimal(entry["handle"])
    assert (chain_id_of(handle), fhe_type_of(handle)) == (entry["host_chain_id"], entry["fhe_type"])


def test_the_types_are_those_of_the_contracts_and_eight_can_be_decrypted() -> None:
    assert sorted(vectors.abi_source()["enums"]["FheType"].values()) == list(FHE_TYPES)
    assert PLAINTEXT_BITS == {0: 2, 2: 8, 3: 16, 4: 32, 5: 64, 6: 128, 7: 160, 8: 256}


LOREM = b"Lorem ipsum dolor sit amet, consectetur adipisicing elit"


@pytest.mark.parametrize(
    ("item", "encoded"),
    [
        (b"", "80"),
        (b"\0", "00"),
        (b"\x7f", "7f"),
        (b"\x80", "8180"),
        (b"dog", "83646f67"),
        (b"x" * 55, "b7" + "78" * 55),
        (LOREM, "b838" + LOREM.hex()),
        (b"x" * 1024, "b90400" + "78" * 1024),
        ((), "c0"),
        ((b"cat", b"dog"), "c88363617483646f67"),
        (((), ((),), ((), ((),))), "c7c0c1c0c3c0c1c0"),
        ((LOREM,), "f83a" + "b838" + LOREM.hex()),
    ],
)
def test_known_encodings(item: rlp.Rlp, encoded: str) -> None:
    """The examples of the Ethereum wiki and the edges of its length classes."""
    assert rlp.encode(item).hex() == encoded
    assert rlp.decode(bytes.fromhex(encoded)) == item


@pytest.mark.parametrize(
    "encoded",
    [
        "",  # nothing
        "8100",  # a small byte with a prefix
        "83646f",  # too short
        "83646f6767",  # left over
        "b800",  # a long form for a short length
        "b83700",  # likewise, 55
        "b9003864",  # a length with a leading zero
        "b9",  # length missing
        "c883636174",  # list too short
        "c783636174836466",  # item beyond its list
        "c18363",  # likewise
        "f800",
        "ff" + "ff" * 8,
        "c1" * 40 + "c0",
    ],
)
def test_other_bytes_are_undecodable(encoded: str) -> None:
    with pytest.raises(Undecodable):
        rlp.decode(bytes.fromhex(encoded))


@pytest.mark.parametrize(("number", "encoded"), [(0, ""), (1, "01"), (255, "ff"), (256, "0100")])
def test_integers_have_no_leading_zeros(number: int, encoded: str) -> None:
    assert rlp.encode(number) == rlp.encode(bytes.fromhex(encoded))
    assert rlp.decode_int(bytes.fromhex(encoded)) == number


@pytest.mark.parametrize("item", [b"\0", b"\0\1", ()])
def test_what_is_no_integer_is_undecodable(item: rlp.Rlp) -> None:
    with pytest.raises(Undecodable):
        rlp.decode_int(item)
