"""Hostile answers by kind and name, which can stand in the place of which answer, and the worlds in which they are played."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from kmsconn.model.requests import FHEVM, HTTPZ_RC7
from kmsconn.testing.hostile.aws import AWS
from kmsconn.testing.hostile.frames import HTTP2, WEBSOCKET
from kmsconn.testing.hostile.grpc import GRPC, PROTOBUF
from kmsconn.testing.hostile.http import BODIES, HTTP, METADATA
from kmsconn.testing.hostile.json_rpc import MESSAGES
from kmsconn.testing.hostile.json_values import ERRORS, RESULTS


@attrs.frozen
class Lie:
    """What stands in an answer's place: ``kind`` says in which part of it, ``name`` what it is."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


LIES: dict[str, tuple[Lie, ...]] = {
    "result": tuple(Lie("result", name) for name in RESULTS),
    "error": tuple(Lie("error", name) for name in ERRORS),
    "message": tuple(Lie("message", name) for name in MESSAGES),
    "push": tuple(Lie("push", name) for name in RESULTS),
    "http": tuple(Lie("http", name) for name in HTTP),
    "metadata": tuple(Lie("metadata", name) for name in METADATA),
    "body": tuple(Lie("body", name) for name in BODIES),
    "protobuf": tuple(Lie("protobuf", name) for name in PROTOBUF),
    "grpc": tuple(Lie("grpc", name) for name in GRPC),
    "websocket": tuple(Lie("websocket", name) for name in WEBSOCKET),
    "http2": tuple(Lie("http2", name) for name in HTTP2),
    "aws": tuple(Lie("aws", name) for name in AWS),
}
"""By kind."""


def subject_of(request: Any) -> str:
    """Return the kind of answer that a JSON-RPC request wants: its method, and for a call of a contract the function's selector."""
    method, params = request["method"], request.get("params") or []
    if method == "eth_call":
        return f"eth_call {params[0].get('data', params[0].get('input', '0x'))[:10]}"
    if method == "eth_getBlockByNumber":
        return f"{method} {params[0] if params[0].isalpha() else 'number'}"
    return f"{method} {params[0]}" if method == "eth_subscribe" else str(method)


def lies_about(subject: str) -> Iterator[Lie]:
    """Yield every lie that can stand in the place of this answer."""
    _, _, what = subject.partition(" ")
    if what in {"batch", "answer"}:
        yield from LIES["message"]
    elif what == "frame":
        yield from LIES["http2" if subject.startswith("core") else "websocket"]
    elif subject.startswith("aws"):
        yield from LIES["aws"]
    elif what.startswith("push"):
        yield from LIES["push"]
    elif what == "http":
        yield from LIES["http"]
    elif what in {"GET", "HEAD"}:
        yield from LIES["metadata"]
        yield from LIES["body"] if what == "GET" else ()
    elif subject.startswith("core"):
        yield from LIES["protobuf"]
        yield from LIES["grpc"]
    elif what.startswith(("eth_", "debug_")):
        yield from LIES["result"]
        yield from LIES["error"]


@attrs.frozen
class Setting:
    """What kind of world it is, and what is asked in it when.

    ``keys`` are made meanwhile; a ``hard`` world has a Gateway of before EIP-1559 and a wallet in AWS KMS, and its first replies are
    mined with status 0, so that they are traced. In one with ``birth`` everybody is hostile from the start on; a start that is refused
    is repeated, as systemd does. Only what ``subjects`` match is hostile.
    """

    name: str = "websocket"
    profile: str = FHEVM
    websocket: bool = True
    keys: bool = False
    hard: bool = False
    birth: bool = False
    subjects: tuple[str, ...] = ("*",)
    before: tuple[str, ...] = ("public", "direct")
    during: tuple[str, ...] = ("unified", "public", "wallet")
    after: tuple[str, ...] = ("unified_delegated", "public")


_FIRST = ("public", "user")
_HARD = (
    "aws *",
    "gateway debug_traceTransaction",
    "gateway eth_gasPrice",
    "gateway eth_getTransactionByHash",
)
_AT_BIRTH = (
    "aws GetPublicKey",
    "gateway eth_getCode",
    "gateway eth_chainId",
    "gateway eth_call 0x0d8e6e2c",  # getVersion()
    "gateway eth_call 0x84b0196e",  # eip712Domain()
)
SETTINGS = {
    one.name: one
    for one in (
        Setting(),
        Setting("http", websocket=False),
        Setting("keys", keys=True),
        Setting("httpz", HTTPZ_RC7, before=_FIRST, during=(*_FIRST, "delegated"), after=_FIRST),
        Setting("hard", hard=True, during=("direct", "public", "delegated"), subjects=_HARD),
        Setting("birth", hard=True, birth=True, subjects=_AT_BIRTH),
        Setting(
            "httpz birth",
            HTTPZ_RC7,
            birth=True,
            before=_FIRST,
            during=_FIRST,
            after=_FIRST,
            subjects=_AT_BIRTH,
        ),
    )
}
"""The worlds, by name."""
