from __future__ import annotations

from typing import Any

import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi_types import parse_type, tuple_type

W = 32


def word(number: int) -> bytes:
    return number.to_bytes(W)


def decode(kind: str, data: bytes, *, exact: bool = True) -> Any:
    value, end = tuple_type(f"({kind})").decode(data, 0, exact=exact)
    assert not exact or end == len(data)
    return value[0]


@pytest.mark.parametrize(
    ("kind", "value", "encoded"),
    [
        ("uint8", 255, word(255)),
        ("uint256", 2**256 - 1, b"\xff" * W),
        ("int32", -1, b"\xff" * W),
        ("int8", 127, word(127)),
        ("bool", True, word(1)),
        ("address", b"\x11" * 20, bytes(12) + b"\x11" * 20),
        ("bytes4", b"abcd", b"abcd" + bytes(28)),
        ("bytes", b"", word(W) + word(0)),
        ("bytes", b"abc", word(W) + word(3) + b"abc" + bytes(29)),
        ("bytes", b"x" * W, word(W) + word(W) + b"x" * W),
        ("string", "ä", word(W) + word(2) + "ä".encode() + bytes(30)),
        ("uint8[]", (), word(W) + word(0)),
        ("uint8[]", (1, 2), word(W) + word(2) + word(1) + word(2)),
        ("uint8[2]", (1, 2), word(1) + word(2)),
        ("(uint8,bool)", (7, False), word(7) + word(0)),
        ("(uint8,bytes)", (7, b""), word(W) + word(7) + word(64) + word(0)),
        (
            "bytes[]",
            (b"", b"a"),
            word(W) + word(2) + word(64) + word(96) + word(0) + word(1) + b"a" + bytes(31),
        ),
    ],
)
def test_values_and_bytes(kind: str, value: Any, encoded: bytes) -> None:
    """Each encoding is written out by hand from the contract ABI specification."""
    assert encoded == tuple_type(f"({kind})").encode((value,))
    assert value == decode(kind, encoded)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("uint8", word(256)),
        ("int8", word(128)),
        ("bool", word(2)),
        ("address", b"\x01" + bytes(31)),
        ("bytes4", b"abcd" + bytes(27) + b"\x01"),
        ("bytes", word(W) + word(1) + b"ab" + bytes(30)),
        ("string", word(W) + word(1) + b"\xff" + bytes(31)),
        ("uint256", bytes(31)),
        ("bytes", word(W)),
        ("bytes", word(W) + word(33) + bytes(W)),
        ("bytes", word(2**255)),
        ("bytes", word(W) + word(2**64)),
        ("bytes", word(W) + word(3) + b"abc"),
        ("bytes", word(64) + bytes(W) + word(0)),
        ("bytes", word(0)),
        ("uint8[]", word(W) + word(3) + bytes(64)),
        ("uint8[]", word(W) + word(2**200)),
        ("bytes[]", word(W) + word(2) + word(64) + word(64) + word(0)),
        ("uint8[2]", word(1)),
    ],
)
def test_other_bytes_are_undecodable(kind: str, data: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(kind, data)


def test_lenient_decoding_takes_gaps_dirty_padding_and_rests() -> None:
    data = word(64) + word(99) + word(1) + b"a" + b"\xff" * 31 + b"rest"
    assert decode("bytes", data, exact=False) == b"a"


def test_lenient_decoding_takes_missing_padding() -> None:
    assert decode("bytes", word(W) + word(1) + b"a", exact=False) == b"a"


def test_lenient_decoding_does_not_take_dirty_addresses() -> None:
    with pytest.raises(Undecodable):
        decode("address", b"\x01" + bytes(31), exact=False)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("uint8", 256),
        ("uint8", -1),
        ("uint8", "1"),
        ("int8", 128),
        ("bool", 1),
        ("address", b"\x11" * 19),
        ("address", "0x" + "11" * 20),
        ("bytes4", b"abc"),
        ("bytes", "text"),
        ("string", b"bytes"),
        ("uint8[]", b"\x01"),
        ("uint8[2]", (1,)),
        ("(uint8,bool)", (1,)),
    ],
)
def test_values_of_another_type_are_value_errors(kind: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        tuple_type(f"({kind})").encode((value,))


@pytest.mark.parametrize(
    "text", ["", "uint7", "uint264", "uint0", "bytes33", "bytes0", "uint", "()[]", "foo", "(uint8"]
)
def test_unknown_types_are_value_errors(text: str) -> None:
    with pytest.raises(ValueError, match=r"no ABI type|bounded"):
        parse_type(text)


def test_an_argument_list_is_a_tuple() -> None:
    with pytest.raises(ValueError, match="no argument list"):
        tuple_type("uint8")


def test_types_are_parsed_once() -> None:
    assert parse_type("(bytes32,address)[]") is parse_type("(bytes32,address)[]")


def test_a_type_has_its_canonical_name() -> None:
    name = "(bytes32,uint256[2],(address,bytes)[],string,int32,bool)"
    assert parse_type(name).name == name
