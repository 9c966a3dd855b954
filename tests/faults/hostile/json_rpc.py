"""JSON results and errors that no honest node gives, and messages made of an honest one; what hurts in any protocol.

Each is legal enough to reach the reader it is meant for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

DIGITS: Final = 5_000
BIG_TEXT: Final = 1_000_000
DEPTHS: Final = (10, 987, 100_000)

Change = Callable[[bytes], bytes]
"""Makes the bytes of the honest ones."""


def always(raw: bytes) -> Change:
    """Return what sends these bytes whatever is honest."""
    return lambda _: raw


def before(raw: bytes) -> Change:
    """Return what sends these bytes before the honest ones."""
    return lambda honest: raw + honest


def nested(depth: int, opening: bytes, closing: bytes, middle: bytes = b"1") -> bytes:
    """Return something nested so deep."""
    return opening * depth + middle + closing * depth


ANY: Final[Mapping[str, Change]] = {
    "nothing": always(b""),
    "half of it": lambda honest: honest[: len(honest) // 2],
    "all but a byte": lambda honest: honest[:-1],
    "twice of it": lambda honest: honest * 2,
    "its bits turned": lambda honest: bytes(byte ^ 0xFF for byte in honest),
}
"""In the place of any message."""


def _text(content: str | bytes) -> bytes:
    raw = content.encode() if isinstance(content, str) else content
    return b'"' + raw + b'"'


_NUMBERS: Final[Mapping[str, int]] = {
    **{str(number): number for number in (0, 1, -1)},
    "2^53": 2**53,
    "2^63-1": 2**63 - 1,
    "2^63": 2**63,
    "2^64": 2**64,
    "2^256-1": 2**256 - 1,
    "2^256": 2**256,
    "2^20000": 2**20_000,
}
"""Numbers at the edges of what columns, words and Python's own conversions hold."""


def _decimal_of(number: int) -> bytes:
    # str() of more than 4,300 digits is refused by Python itself
    return str(number).encode() if number < 2**10_000 else b"1" + b"0" * DIGITS


RESULTS: Final[Mapping[str, bytes]] = {
    "null": b"null",
    "true": b"true",
    "false": b"false",
    **{f"hex {name}": _text(hex(number)) for name, number in _NUMBERS.items()},
    **{f"decimal {name}": _decimal_of(number) for name, number in _NUMBERS.items()},
    "float": b"1.5",
    "float 1e999": b"1e999",
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "empty text": _text(""),
    "0x": _text("0x"),
    "0x and 5,000 digits": _text("0x" + "f" * DIGITS),
    "0x and odd digits": _text("0xabc"),
    "0x and a million digits": _text("0x" + "0" * BIG_TEXT),
    "a zero word": _text("0x" + "00" * 32),
    "a word of ones": _text("0x" + "ff" * 32),
    "an ABI array of 2^255 items": _text("0x" + f"{32:064x}" + f"{2**255:064x}"),
    "an ABI array of 2^31 items": _text("0x" + f"{32:064x}" + f"{2**31:064x}" + "00" * 64),
    "ABI offsets in a circle": _text("0x" + f"{0:064x}" * 64),
    "5,000 decimal digits as text": _text("9" * DIGITS),
    "not hex": _text("0xzz"),
    "text": _text("pardon?"),
    "lone surrogates": _text(r"\ud800\udfff\ud800"),
    "NUL bytes": _text(r"0x\u0000\u0000"),
    "full-width digits": _text("0x１２"),
    "right-to-left marks": _text("\u202e0x1"),
    "a million characters": _text("x" * BIG_TEXT),
    "empty list": b"[]",
    "empty object": b"{}",
    "list of nulls": b"[null, null]",
    "list of lists": b"[[], [[]]]",
    "list of numbers": b"[1, -1, 1e999]",
    "list of empty objects": b"[{}, {}]",
    "object of another kind": b'{"what": ["is", 7]}',
    "block with wild numbers": (
        b'{"number": "0x7fffffffffffffff", "timestamp": "0x7fffffffffffffff", "hash": "0x00", '
        b'"baseFeePerGas": "0x' + b"f" * DIGITS + b'", "reward": [["0x' + b"f" * DIGITS + b'"]], '
        b'"blockHash": "0x00", "blockNumber": "0x7fffffffffffffff", "status": "0x' + b"f" * DIGITS + b'"}'
    ),
    "a block at 2^63-1": b'{"number": "0x7fffffffffffffff", "timestamp": "0x7fffffffffffffff"}',
    "a number at 2^63-1": b'{"number": "0x7fffffffffffffff", "timestamp": "0x69560000"}',
    "a time at 2^63-1": b'{"number": "0x10", "timestamp": "0x7fffffffffffffff"}',
    "block with numbers below 2^53": (
        b'{"number": "0x1fffffffffffff", "timestamp": "0x1fffffffffffff", "hash": "0x00", "baseFeePerGas": "0x1", '
        b'"reward": [["0x1"]], "blockHash": "0x00", "blockNumber": "0x1fffffffffffff", "status": "0x2"}'
    ),
    "block with nulls": b'{"number": null, "timestamp": null, "blockNumber": null, "blockHash": null, "status": null}',
    "block with negative numbers": b'{"number": "-0x1", "timestamp": -1, "blockNumber": "-0x1", "blockHash": "0x"}',
    "duplicate keys": b'{"number": "0x1", "number": {}, "timestamp": "0x1", "timestamp": [], "status": "0x1", "status": 1}',
    "a log with wild numbers": (
        b'[{"address": "0x' + b"00" * 20 + b'", "topics": ["0x' + b"00" * 32 + b'"], "data": "0x", '
        b'"blockNumber": "0x7fffffffffffffff", "blockHash": "0x' + b"00" * 32 + b'", '
        b'"transactionHash": "0x' + b"00" * 32 + b'", "logIndex": "0x7fffffffffffffff"}]'
    ),
    "a trace without end": b'{"error": {"error": []}, "output": 7, "calls": '
    + nested(500, b"[", b"]")
    + b"}",
    **{f"lists nested {depth} deep": nested(depth, b"[", b"]") for depth in DEPTHS},
    **{f"objects nested {depth} deep": nested(depth, b'{"a":', b"}") for depth in DEPTHS},
}
"""In the place of a call's ``result``, and of what a subscription pushes."""


def _error(code: bytes = b"-32000", message: bytes = b'"no"') -> bytes:
    return b'{"code": ' + code + b', "message": ' + message + b"}"


def _revert(data: bytes) -> bytes:
    return b'{"code": 3, "message": "execution reverted", "data": ' + data + b"}"


ERRORS: Final[Mapping[str, bytes]] = {
    "true": b"true",
    "a number": b"-32000",
    "a text": _text("no"),
    "an empty object": b"{}",
    "an empty list": b"[]",
    "no code": b'{"message": "no"}',
    "no message": b'{"code": -32000}',
    "a huge code": _error(b"1" + b"0" * DIGITS),
    "a code of 2^64": _error(b"18446744073709551616"),
    "a code that is a text": _error(b'"-32000"'),
    "a code that is infinite": _error(b"1e999"),
    "a message that is an object": _error(message=b'{"a": [1]}'),
    "a message of surrogates": _error(message=rb'"\ud800"'),
    "a message of a million characters": _error(message=_text(b"revert " * (BIG_TEXT // 7))),
    "a message of NUL bytes": _error(message=rb'"\u0000\u001b[31m"'),
    "data that is a list": _revert(b"[]"),
    "data nested": _revert(b'{"data": {"data": "0x"}}'),
    "data of odd digits": _revert(b'"0xabc"'),
    "data of a million digits": _revert(_text(b"0x" + b"0" * BIG_TEXT)),
    "data of an Error of 2^255 characters": _revert(_text(f"0x08c379a0{32:064x}{2**255:064x}")),
    **{f"data nested {n} deep": b'{"code": 3, "data": ' + nested(n, b"[", b"]") + b"}" for n in DEPTHS},
    **{f"a message nested {n} deep": b'{"message": ' + nested(n, b'{"a":', b"}") + b"}" for n in DEPTHS},
}
"""In the place of a call's ``error``."""


def _each(old: bytes, new: bytes) -> Change:
    return lambda honest: honest.replace(old, new)


def _each_id(change: Callable[[bytes], bytes]) -> Change:
    return lambda honest: re.sub(rb'(?<="id":)[^,}]*', lambda found: change(found[0]), honest)


def _ids(pattern: bytes) -> Change:
    return _each_id(lambda one: pattern % one)


def _push(parameters: bytes) -> Change:
    return always(b'{"jsonrpc":"2.0","method":"eth_subscription"' + parameters + b"}")


MESSAGES: Final[Mapping[str, Change]] = {
    **ANY,
    "a NUL byte": always(b"\0"),
    "white space": always(b" " * BIG_TEXT),
    "null": always(b"null"),
    "a number": always(b"7"),
    "an empty list": always(b"[]"),
    "an empty object": always(b"{}"),
    "a list of nulls": always(b"[null]"),
    "a list of lists": always(b"[[{}]]"),
    "invalid UTF-8": always(b'{"jsonrpc":"2.0","id":1,"result":"\xff\xfe"}'),
    "UTF-16": lambda honest: honest.decode("utf-8", "replace").encode("utf-16"),
    "a byte order mark": lambda honest: b"\xef\xbb\xbf" + honest,
    "an answer that is wrapped": lambda honest: b"[" + honest + b"]",
    "answers without ids": _each(b'"id":', b'"di":'),
    "ids that are texts": _ids(b'"%b"'),
    "ids that are floats": _ids(b"%b.0"),
    "ids that are null": _each_id(lambda _: b"null"),
    "ids that are lists": _ids(b"[%b]"),
    "ids that are true": _each_id(lambda _: b"true"),
    "ids that are negative": _ids(b"-%b"),
    "ids that are huge": _each_id(lambda one: one + b"0" * DIGITS),
    "ids of 2^64 more": _each_id(lambda one: str(int(one) + 2**64).encode()),
    "ids of others": _each_id(lambda one: str(int(one) + 1).encode()),
    "ids that are all alike": _each_id(lambda _: b"1"),
    "neither result nor error": _each(b'"result":', b'"results":'),
    "both result and error": _each(b'"result":', b'"error":{"code":1,"message":"no"},"result":'),
    "an error beside null": _each(b'"result":', b'"error":null,"result":'),
    "duplicate results": _each(b'"result":', b'"result":[[7]],"result":'),
    "an error for nobody": always(
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"batch limit"}}'
    ),
    "an error for nobody in a list": always(b'[{"jsonrpc":"2.0","id":null,"error":{}}]'),
    "a push for nobody": _push(b',"params":{"subscription":"0x0","result":7}'),
    "a push without parameters": _push(b""),
    "a push with a list": _push(b',"params":[[]]'),
    "a push nested 100000 deep": _push(
        b',"params":{"subscription":"0x0","result":' + nested(100_000, b"[", b"]") + b"}"
    ),
    "a question": always(b'{"jsonrpc":"2.0","id":1,"method":"eth_accounts","params":[]}'),
    "a thousand answers": always(b"[" + b",".join([b'{"id":1,"result":1}'] * 1_000) + b"]"),
    **{f"lists nested {depth} deep": always(nested(depth, b"[", b"]")) for depth in DEPTHS},
    **{f"objects nested {depth} deep": always(nested(depth, b'{"id":', b"}")) for depth in DEPTHS},
}
"""In the place of a whole message, one answer or a batch of them."""
