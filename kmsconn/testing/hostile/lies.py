"""Hostile answers by kind and name, which can stand in the place of which answer, and the worlds in which they are played."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from kmsconn.model.requests import FHEVM, HTTPZ_RC7
from kmsconn.testing.hostile.aws import AWS
from kmsconn.testing.hostile.frames import HTTP2, WEBSOCKET
from kmsconn.testing.hostile.grpc import GRPC, PROTOBUF
from kmsconn.testing.hostile.http import BODIES, HTTP, METADATA
from kmsconn.testing.hostile.json_rpc import ERRORS, MESSAGES, RESULTS

LIES: Mapping[str, Mapping[str, Any]] = {
    "result": RESULTS,
    "error": ERRORS,
    "message": MESSAGES,
    "push": RESULTS,
    "http": HTTP,
    "metadata": METADATA,
    "body": BODIES,
    "protobuf": PROTOBUF,
    "grpc": GRPC,
    "websocket": WEBSOCKET,
    "http2": HTTP2,
    "aws": AWS,
}
"""What is said, by kind and name."""


@attrs.frozen
class Lie:
    """What stands in an answer's place: ``kind`` says in which part of it, ``name`` what it is."""

    kind: str
    name: str

    @property
    def content(self) -> Any:
        """What is said, or what makes it of the honest answer."""
        return LIES[self.kind][self.name]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def subject_of(request: Any) -> str:
    """Return the kind of answer that a JSON-RPC request wants: its method, and for a call of a contract the function's selector."""
    method, params = request["method"], request.get("params") or []
    if method == "eth_call":
        return f"eth_call {params[0].get('data', params[0].get('input', '0x'))[:10]}"
    if method == "eth_getBlockByNumber":
        return f"{method} {params[0] if params[0].isalpha() else 'number'}"
    return f"{method} {params[0]}" if method == "eth_subscribe" else str(method)


def lies_about(subject: str) -> list[Lie]:
    """Return every lie that can stand in the place of this answer."""
    who, _, what = subject.partition(" ")
    rows = (
        (what in {"batch", "answer"}, ("message",)),
        (what == "frame", ("http2" if who.startswith("core") else "websocket",)),
        (who == "aws", ("aws",)),
        (what.startswith("push"), ("push",)),
        (what == "http", ("http",)),
        (what == "HEAD", ("metadata",)),
        (what == "GET", ("metadata", "body")),
        (who.startswith("core"), ("protobuf", "grpc")),
        (what.startswith(("eth_", "debug_")), ("result", "error")),
    )
    kinds = next((kinds for meant, kinds in rows if meant), ())
    return [Lie(kind, name) for kind in kinds for name in LIES[kind]]


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
