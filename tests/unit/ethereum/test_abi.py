from __future__ import annotations

from typing import Any

import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Abi, canonical
from kmsconn.ethereum.abi_types import parse_type, tuple_type

ITEMS: list[dict[str, Any]] = [
    {"type": "constructor", "inputs": []},
    {
        "type": "function",
        "name": "transfer",
        "inputs": [{"name": "to", "type": "address"}, {"name": "amount", "type": "uint256"}],
        "outputs": [{"name": "", "type": "bool"}],
    },
    {"type": "function", "name": "twice", "inputs": [], "outputs": []},
    {"type": "function", "name": "twice", "inputs": [{"type": "uint8"}], "outputs": []},
    {
        "type": "event",
        "name": "Transfer",
        "inputs": [
            {"name": "from", "type": "address", "indexed": True},
            {"name": "amount", "type": "uint256", "indexed": False},
            {"name": "note", "type": "string", "indexed": True},
        ],
    },
    {"type": "error", "name": "Short", "inputs": [{"type": "uint256"}]},
]
ABI = Abi(ITEMS)
ACCOUNT = b"\x11" * 20


def test_calldata_round_trip() -> None:
    """The selector is the well-known one, transfer(address,uint256) of ERC-20."""
    function = ABI.function("transfer")
    calldata = function.encode(ACCOUNT, 5)
    assert calldata == bytes.fromhex("a9059cbb") + bytes(12) + ACCOUNT + (5).to_bytes(32)
    assert function.decode(calldata) == function.decode(calldata + b"\x00", exact=False) == (ACCOUNT, 5)
    for wrong, told in ((bytes(68), "selector"), (calldata + b"\x00", "1 bytes too many")):
        with pytest.raises(Undecodable, match=told):
            function.decode(wrong)


def test_results_round_trip_and_the_nothing_of_an_account_without_code_is_undecodable() -> None:
    function = ABI.function("transfer")
    assert function.decode_result(function.encode_result(True)) == (True,)
    with pytest.raises(Undecodable):
        function.decode_result(b"")


def test_an_overloaded_name_needs_its_signature_and_an_unknown_one_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="ambiguous"):
        ABI.function("twice")
    assert ABI.function("twice(uint8)").signature == "twice(uint8)"
    with pytest.raises(KeyError, match="no such entry"):
        ABI.error("Long")


def test_event_values_come_in_the_order_of_their_declaration() -> None:
    event = ABI.event("Transfer")
    topics, data = event.encode(ACCOUNT, 7, b"\x22" * 32)
    assert topics == (event.topic0, bytes(12) + ACCOUNT, b"\x22" * 32)
    assert event.decode(topics, data) == (ACCOUNT, 7, b"\x22" * 32)
    for wrong in (topics[:-1], (*topics, bytes(32)), (bytes(32), *topics[1:]), ()):
        with pytest.raises(Undecodable):
            event.decode(wrong, data)
    with pytest.raises(Undecodable, match="32 bytes"):
        event.decode((*topics[:2], b"\x22" * 31), data)
    with pytest.raises(ValueError, match="3 values"):
        event.encode(ACCOUNT)


def test_errors_round_trip() -> None:
    error = ABI.error("Short")
    assert error.decode(error.encode(3)) == (3,)


def test_entries_are_found_by_selector_and_topic() -> None:
    assert ABI.functions_by_selector[ABI.function("transfer").selector].name == "transfer"
    assert ABI.events_by_topic[ABI.event("Transfer").topic0].name == "Transfer"
    assert ABI.errors_by_selector[ABI.error("Short").selector].name == "Short"


def test_a_struct_is_the_tuple_of_its_components() -> None:
    parameter = {"type": "tuple[]", "components": [{"type": "bytes32"}, {"type": "tuple", "components": []}]}
    assert canonical(parameter) == "(bytes32,())[]"


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
    ],
)
def test_other_bytes_are_undecodable(kind: str, data: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(kind, data)


def test_lenient_decoding_takes_gaps_padding_and_rests_and_no_dirty_addresses() -> None:
    data = word(64) + word(99) + word(1) + b"a" + b"\xff" * 31 + b"rest"
    assert decode("bytes", data, exact=False) == b"a"
    assert decode("bytes", word(W) + word(1) + b"a", exact=False) == b"a"
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
        ("(uint8,bool)", (1,)),
    ],
)
def test_values_of_another_type_are_value_errors(kind: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        tuple_type(f"({kind})").encode((value,))


@pytest.mark.parametrize(
    "text",
    ["", "uint7", "uint264", "uint0", "bytes33", "bytes0", "uint", "()[]", "foo", "(uint8", "uint8[2]"],
)
def test_unknown_types_are_value_errors(text: str) -> None:
    with pytest.raises(ValueError, match=r"no ABI type|bounded"):
        parse_type(text)


def test_a_type_is_parsed_once_and_has_its_canonical_name() -> None:
    name = "(bytes32,(address,bytes)[],string,int32,bool)"
    assert parse_type(name).name == name
    assert parse_type(name) is parse_type(name)
    with pytest.raises(ValueError, match="no argument list"):
        tuple_type("uint8")
