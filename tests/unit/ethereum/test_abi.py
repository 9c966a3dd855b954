from __future__ import annotations

from typing import Any

import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Abi, canonical

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
ABI = Abi.from_items(ITEMS)
ACCOUNT = b"\x11" * 20


def test_the_selector_is_the_well_known_one() -> None:
    """transfer(address,uint256) of ERC-20."""
    assert bytes.fromhex("a9059cbb") == ABI.function("transfer").selector


def test_calldata_round_trip() -> None:
    function = ABI.function("transfer")
    calldata = function.encode(ACCOUNT, 5)
    assert calldata == function.selector + bytes(12) + ACCOUNT + (5).to_bytes(32)
    assert function.decode(calldata) == (ACCOUNT, 5)


def test_calldata_of_another_function_is_undecodable() -> None:
    with pytest.raises(Undecodable, match="selector"):
        ABI.function("transfer").decode(bytes(68))


def test_bytes_too_many_are_undecodable_unless_lenient() -> None:
    function = ABI.function("transfer")
    calldata = function.encode(ACCOUNT, 5) + b"\x00"
    with pytest.raises(Undecodable, match="1 bytes too many"):
        function.decode(calldata)
    assert function.decode(calldata, exact=False) == (ACCOUNT, 5)


def test_results_round_trip() -> None:
    function = ABI.function("transfer")
    assert function.decode_result(function.encode_result(True)) == (True,)


def test_the_nothing_of_an_account_without_code_is_undecodable() -> None:
    with pytest.raises(Undecodable):
        ABI.function("transfer").decode_result(b"")


def test_an_overloaded_name_needs_its_signature() -> None:
    with pytest.raises(KeyError, match="ambiguous"):
        ABI.function("twice")
    assert ABI.function("twice(uint8)").signature == "twice(uint8)"


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="no such entry"):
        ABI.error("Long")


def test_event_values_come_in_the_order_of_their_declaration() -> None:
    event = ABI.event("Transfer")
    topics, data = event.encode(ACCOUNT, 7, b"\x22" * 32)
    assert topics == (event.topic0, bytes(12) + ACCOUNT, b"\x22" * 32)
    assert event.decode(topics, data) == (ACCOUNT, 7, b"\x22" * 32)


def test_the_wrong_number_of_topics_is_undecodable() -> None:
    event = ABI.event("Transfer")
    topics, data = event.encode(ACCOUNT, 7, b"\x22" * 32)
    for wrong in (topics[:-1], (*topics, bytes(32)), (bytes(32), *topics[1:]), ()):
        with pytest.raises(Undecodable):
            event.decode(wrong, data)


def test_a_topic_of_another_length_is_undecodable() -> None:
    event = ABI.event("Transfer")
    topics, data = event.encode(ACCOUNT, 7, b"\x22" * 32)
    with pytest.raises(Undecodable, match="32 bytes"):
        event.decode((*topics[:2], b"\x22" * 31), data)


def test_the_wrong_number_of_event_values_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="3 values"):
        ABI.event("Transfer").encode(ACCOUNT)


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
