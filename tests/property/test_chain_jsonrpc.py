"""Laws of JSON-RPC: nothing a node says gets past the error tree, and answers find their questions."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kmsconn.chain.jsonrpc import (
    MAX_MESSAGE,
    RpcAnswer,
    clean,
    decode,
    encode,
    is_overload,
    is_range_limit,
    rpc_error,
)
from kmsconn.chain.logs import decode_logs
from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import Unreachable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["id", "result", "error", "method", "params", "jsonrpc"])
OBJECTS = st.dictionaries(FIELDS, JSON, max_size=6)


@given(st.binary() | st.text())
def test_any_bytes_are_messages_or_unreachable(data: Any) -> None:
    try:
        messages = decode(data)
    except Unreachable:
        return
    assert isinstance(messages, list)


@given(st.lists(OBJECTS, max_size=4))
def test_any_objects_are_messages_or_left_out(objects: list[Any]) -> None:
    assert len(decode(json.dumps(objects))) <= len(objects)


@given(st.lists(JSON, min_size=1, max_size=6), st.integers(1, 2**40), st.randoms())
def test_answers_in_any_order_find_their_questions(values: list[Any], first: int, random: Any) -> None:
    asked = json.loads(encode(first, [Call("echo", (value,)) for value in values], batch=True))
    answers = [{"jsonrpc": "2.0", "id": one["id"], "result": one["params"][0]} for one in asked]
    random.shuffle(answers)
    found = {
        message.id: message.outcome
        for message in decode(json.dumps(answers))
        if isinstance(message, RpcAnswer)
    }
    assert [found[first + number] for number in range(len(values))] == values


@given(JSON)
def test_any_error_object_is_a_printable_short_error(error: Any) -> None:
    found = rpc_error(json.dumps(error).encode())
    assert isinstance(found, RpcError)
    assert len(found.message) <= MAX_MESSAGE
    assert found.message.isprintable()


@given(st.text())
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(st.integers(-40_000, 500), st.text())
def test_an_error_is_never_both_overload_and_range_limit(code: int, message: str) -> None:
    error = RpcError(code, message)
    assert not (is_overload(error) and is_range_limit(error))


@given(st.lists(JSON, max_size=4))
def test_any_log_objects_are_logs_or_told(found: list[Any]) -> None:
    logs, malformed = decode_logs(found)
    assert len(logs) + len(malformed) <= len(found)
