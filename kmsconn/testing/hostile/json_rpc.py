"""JSON-RPC messages that no honest node sends, made of an honest one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kmsconn.testing.hostile.json_values import _BIG_TEXT, _DEPTHS, _DIGITS, _nested

Message = Callable[[bytes], bytes]
"""Makes a whole JSON-RPC message of the honest one."""


def _always(raw: bytes) -> Message:
    return lambda _: raw


def _each(old: bytes, new: bytes) -> Message:
    return lambda honest: honest.replace(old, new)


def _each_id(change: Callable[[bytes], bytes]) -> Message:
    return lambda honest: _with_ids(honest, change)


def _ids(pattern: bytes) -> Message:
    return _each_id(lambda one: pattern % one)


MESSAGES: Final[Mapping[str, Message]] = {
    "nothing": _always(b""),
    "a NUL byte": _always(b"\0"),
    "white space": _always(b" " * _BIG_TEXT),
    "null": _always(b"null"),
    "a number": _always(b"7"),
    "an empty list": _always(b"[]"),
    "an empty object": _always(b"{}"),
    "a list of nulls": _always(b"[null]"),
    "a list of lists": _always(b"[[{}]]"),
    "invalid UTF-8": _always(b'{"jsonrpc":"2.0","id":1,"result":"\xff\xfe"}'),
    "UTF-16": lambda honest: honest.decode("utf-8", "replace").encode("utf-16"),
    "a byte order mark": lambda honest: b"\xef\xbb\xbf" + honest,
    "two documents": lambda honest: honest + honest,
    "half a document": lambda honest: honest[: len(honest) // 2],
    "an answer that is wrapped": lambda honest: b"[" + honest + b"]",
    "answers without ids": _each(b'"id":', b'"di":'),
    "ids that are texts": _ids(b'"%b"'),
    "ids that are floats": _ids(b"%b.0"),
    "ids that are null": _each_id(lambda _: b"null"),
    "ids that are lists": _ids(b"[%b]"),
    "ids that are true": _each_id(lambda _: b"true"),
    "ids that are negative": _ids(b"-%b"),
    "ids that are huge": _each_id(lambda one: one + b"0" * _DIGITS),
    "ids of 2^64 more": _each_id(lambda one: str(int(one) + 2**64).encode()),
    "ids of others": _each_id(lambda one: str(int(one) + 1).encode()),
    "ids that are all alike": _each_id(lambda _: b"1"),
    "neither result nor error": lambda honest: honest.replace(b'"result":', b'"results":'),
    "both result and error": _each(b'"result":', b'"error":{"code":1,"message":"no"},"result":'),
    "an error beside null": _each(b'"result":', b'"error":null,"result":'),
    "duplicate results": _each(b'"result":', b'"result":[[7]],"result":'),
    "an error for nobody": _always(
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"batch limit"}}'
    ),
    "an error for nobody in a list": _always(b'[{"jsonrpc":"2.0","id":null,"error":{}}]'),
    "a push for nobody": _always(
        b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x0","result":7}}'
    ),
    "a push without parameters": _always(b'{"jsonrpc":"2.0","method":"eth_subscription"}'),
    "a push with a list": _always(b'{"jsonrpc":"2.0","method":"eth_subscription","params":[[]]}'),
    "a push nested 100000 deep": _always(
        b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x0","result":'
        + _nested(100_000, b"[", b"]")
        + b"}}"
    ),
    "a question": _always(b'{"jsonrpc":"2.0","id":1,"method":"eth_accounts","params":[]}'),
    "a thousand answers": _always(b"[" + b",".join([b'{"id":1,"result":1}'] * 1_000) + b"]"),
    **{f"lists nested {depth} deep": _always(_nested(depth, b"[", b"]")) for depth in _DEPTHS},
    **{f"objects nested {depth} deep": _always(_nested(depth, b'{"id":', b"}")) for depth in _DEPTHS},
}
"""In the place of a whole message, one answer or a batch of them."""


def _with_ids(honest: bytes, change: Callable[[bytes], bytes]) -> bytes:
    head, *rest = honest.split(b'"id":')
    changed = []
    for part in rest:
        end = next(at for at, byte in enumerate(part) if byte in b",}")
        changed.append(change(part[:end]) + part[end:])
    return b'"id":'.join([head, *changed])
