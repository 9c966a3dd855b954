"""JSON-RPC as bytes and its errors; results as structs: what is read, what is ignored, what is refused."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from kmsconn.chain.port import (
    MAX_MESSAGE,
    Call,
    JsonBlock,
    JsonFeeHistory,
    JsonReceipt,
    JsonTrace,
    JsonTransaction,
    Notification,
    RpcAnswer,
    RpcError,
    batch_results,
    call_result,
    clean,
    decode,
    encode,
    is_overload,
    is_range_limit,
    read,
    rpc_error,
)
from kmsconn.errors import Overloaded, Unreachable


def test_a_call_is_one_object() -> None:
    assert json.loads(encode(7, [Call("eth_call", ({"to": "0x"}, "latest"))], batch=False)) == {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "eth_call",
        "params": [{"to": "0x"}, "latest"],
    }


def test_a_batch_is_an_array_with_ids_that_count_up_even_if_it_has_one_call() -> None:
    assert [item["id"] for item in json.loads(encode(7, [Call("a"), Call("b")], batch=True))] == [7, 8]
    assert len(json.loads(encode(7, [Call("a")], batch=True))) == 1


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        pytest.param('[{"id":2,"result":"b"},{"id":1,"result":"a"}]', [RpcAnswer(2, "b"), RpcAnswer(1, "a")], id="in any order"),
        pytest.param('{"id":1,"result":null}', [RpcAnswer(1, None)], id="null is a result"),
        pytest.param('{"id":1,"result":"a","error":null}', [RpcAnswer(1, "a")], id="null is no error"),
        pytest.param(
            '{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x1","result":{"n":1}}}',
            [Notification("0x1", Raw(b'{"n":1}'))], id="a push",
        ),
    ],
)  # fmt: skip
def test_answers_and_pushes_are_read(text: str, messages: list[Any]) -> None:
    assert decode(text) == messages


def test_an_error_without_an_id_is_a_complaint() -> None:
    (message,) = decode('{"id":null,"error":{"code":-32600,"message":"batch too large"}}')
    assert isinstance(message, RpcAnswer)
    assert message.id is None
    assert (message.outcome.code, message.outcome.message) == (-32600, "batch too large")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"id":1}',
        '{"id":"x","result":1}',
        '{"id":true,"result":1}',
        '{"method":"eth_subscription"}',
        '{"method":"eth_subscription","params":[]}',
        '{"method":"eth_subscription","params":{"subscription":1,"result":1}}',
        '{"method":"eth_subscription","params":{"subscription":"0x1"}}',
        '{"method":"other","params":{"subscription":"0x1","result":1}}',
    ],
)
def test_objects_that_are_nothing_are_left_out(text: str) -> None:
    assert decode(text) == []


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b'{"id":1', b"1", b"[1]", b'"x"', b"\xff\xfe", "[" * 100_000]
)
def test_what_is_no_json_rpc_is_unreachable(data: Any) -> None:
    with pytest.raises(Unreachable, match="no JSON-RPC"):
        decode(data)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("0x08c379a0", bytes.fromhex("08c379a0")),
        ("0x", b""),
        ("Reverted 0x1234", b"\x12\x34"),
        ({"data": "0x1234", "message": "x"}, b"\x12\x34"),
        ({"message": "x"}, None),
        ("0x123", None),
        ("execution reverted", None),
        (17, None),
        (None, None),
    ],
)
def test_revert_bytes_are_found_where_nodes_put_them(data: Any, found: bytes | None) -> None:
    error = {"code": 3, "message": "execution reverted", "data": data}
    assert rpc_error(json.dumps(error).encode()).data == found


@pytest.mark.parametrize(
    "error",
    [
        '"boom"',
        '{"message": {"a": 1}}',
        '{"code": "x", "message": "boom"}',
        "[1]",
        "5",
        "{}",
        '{"code": 2147483648}',
        '{"code": 1' + "0" * 5_000 + "}",
        '{"message": "\\ud800"}',
        '{"data": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_a_crooked_error_object_is_still_an_error(error: str) -> None:
    assert rpc_error(error.encode()).code == 0


def test_an_error_that_nests_as_deeply_as_can_be_read_is_an_error() -> None:
    """At some depth it can just be read and no more than that: Python 3.11 counts the frames of its own calls too."""
    for depth in range(800, 1_100):
        nested = "[" * depth + "]" * depth
        with suppress(Unreachable):
            (message,) = decode(f'{{"id": 1, "error": {{"message": {nested}}}}}')
            assert isinstance(message, RpcAnswer)
            assert isinstance(message.outcome, RpcError)


def test_a_message_is_cleaned_of_control_characters_and_cut() -> None:
    assert clean("bad\x00\x1b[31m\nargument\u202e\x9f") == "bad [31m argument"
    assert len(clean("x" * 10_000)) == MAX_MESSAGE


OVERLOADS = [
    (-32005, "limit exceeded"),
    (-32005, "daily request count exceeded, request rate limited"),
    (429, "Your app has exceeded its compute units per second capacity"),
    (-32000, "Too Many Requests"),
    (-32016, "over rate limit"),
]
RANGES = [
    (-32005, "query returned more than 10000 results"),
    (-32602, "block range is too wide"),
    (-32000, "exceed maximum block range: 5000"),
    (-32602, "eth_getLogs is limited to a 10,000 block range"),
    (-32008, "Log response size exceeded."),
    (-32000, "query timed out"),
]
OTHERS = [
    (-32000, "header not found"),
    (-39001, "Unknown block"),
    (-32602, "block range extends beyond current head block"),
    (-32000, "nonce too low"),
    (3, "execution reverted"),
    (-32601, "method not found"),
]


@pytest.mark.parametrize(("code", "message"), OVERLOADS + RANGES + OTHERS)
def test_overloads_and_ranges_that_are_too_wide_are_told_from_the_callers_errors(
    code: int, message: str
) -> None:
    error, one = RpcError(code, message), (code, message)
    assert (is_overload(error), is_range_limit(error)) == (one in OVERLOADS, one in RANGES)


def test_the_outcome_of_a_call_is_returned_or_raised() -> None:
    assert call_result("0x1") == "0x1"
    with pytest.raises(RpcError):
        call_result(RpcError(3, "execution reverted"))
    with pytest.raises(Overloaded):
        call_result(RpcError(429, "slow down"))


def test_a_batch_is_returned_whole_if_one_answer_is_usable_and_is_an_overload_if_none_is() -> None:
    limited = RpcError(429, "slow down")
    assert batch_results([limited, "0x1"]) == [limited, "0x1"]
    with pytest.raises(Overloaded):
        batch_results([limited] * 2)


BLOCK = {"number": "0x10", "timestamp": "0x20", "hash": "0xab", "baseFeePerGas": "0x7", "extraData": "0x"}


def test_a_block_is_read_by_the_names_of_geth_and_other_fields_are_ignored() -> None:
    assert read(BLOCK, JsonBlock) == JsonBlock("0x10", "0x20", "0xab", "0x7", None)


def test_a_trace_without_error_and_output_has_geths_defaults() -> None:
    assert read({"type": "CALL"}, JsonTrace) == JsonTrace("failed", "0x")


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (None, JsonBlock),
        ([], JsonBlock),
        ({"number": "0x1"}, JsonBlock),
        ({**BLOCK, "number": 16}, JsonBlock),
        ({"blockHash": "0x1", "blockNumber": "0x1", "status": True}, JsonReceipt),
        ({"blockNumber": "0x1", "status": "0x1"}, JsonReceipt),
        ({"to": 5, "input": "0x"}, JsonTransaction),
        ({"reward": [[5]]}, JsonFeeHistory),
        ({"reward": "0x"}, JsonFeeHistory),
    ],
)
def test_another_form_is_a_value_error(result: Any, kind: type[msgspec.Struct]) -> None:
    with pytest.raises(ValueError, match=r"Expected|missing"):
        read(result, kind)
