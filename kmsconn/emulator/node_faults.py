"""What a node says when it refuses, and the faults that it can have: which calls each strikes, and what a struck call returns.

How often a fault strikes is decided in ``drills.drill``. Those of ``NodeFault`` are performed by a node's methods, answers and
connections.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final, Literal, Never

import attrs
import msgspec
import trio

from kmsconn.emulator.blocks import EmulatedTransaction
from kmsconn.emulator.drills.drill import DrillScene, End, Faulty, Occasional, Target
from kmsconn.errors import KmsconnError
from kmsconn.ethereum.hexes import from_quantity, quantity

SERVER_ERROR: Final = -32000
INVALID_PARAMS: Final = -32602
METHOD_NOT_FOUND: Final = -32601
INVALID_REQUEST: Final = -32600
PARSE_ERROR: Final = -32700
LIMIT_EXCEEDED: Final = -32005
PRUNED_HISTORY: Final = 4444
EXECUTION_REVERTED: Final = 3

SLOW_SECONDS: Final = 2.0
"""How late a slow answer comes."""
_SELECTOR_BYTES = 4


class NodeError(KmsconnError):
    """A node's refusal: the members of the JSON-RPC error object; ``data`` is any JSON value or None for no member."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.data = code, message, data

    def as_json(self) -> dict[str, Any]:
        """Return the error object."""
        plain = {"code": self.code, "message": self.message}
        return plain if self.data is None else {**plain, "data": self.data}


def refused(message: str) -> NodeError:
    """Return the error with which a node refuses a transaction."""
    return NodeError(SERVER_ERROR, message)


def reverted(data: bytes) -> NodeError:
    """Return the error of a call or estimate that reverted, with the same text as anvil: argument bytes raw where they are UTF-8."""
    return NodeError(EXECUTION_REVERTED, f"execution reverted{revert_text(data)}", "0x" + data.hex())


def revert_text(data: bytes) -> str:
    """Return what a node appends to ``execution reverted``: nothing, or selector and arguments."""
    if not data:
        return ""
    selector, arguments = data[:_SELECTOR_BYTES], data[_SELECTOR_BYTES:]
    text = f": custom error 0x{selector.hex()}"
    try:
        return f"{text}: {arguments.decode()}" if arguments else text
    except UnicodeDecodeError:
        return f"{text}: {arguments.hex()}"


Honest = Callable[[], Any]
"""Carries the call out. Raises NodeError."""

_SELECTOR_TEXT = len("0x") + 8
_ID_TEXT = 64


class NodeFault(StrEnum):
    """What a node can do wrong (the network's own faults, such as refusing or resetting, are elsewhere)."""

    HANG = "hang"
    """The request is taken and never answered."""
    SLOW = "slow"
    """The answer comes ``SLOW_SECONDS`` late."""
    HANG_UP = "hang_up"
    """The connection is closed before the request is carried out."""
    RATE_LIMITED = "rate_limited"
    """HTTP 429; over a websocket the error −32005."""
    BAD_GATEWAY = "bad_gateway"
    """HTTP 502."""
    UNAVAILABLE = "unavailable"
    """HTTP 503."""
    TRUNCATED = "truncated"
    """The JSON text ends in the middle."""
    NOT_JSON = "not_json"
    """HTML with status 200."""
    WRONG_ID = "wrong_id"
    """The answer carries another id."""
    SHUFFLED = "shuffled"
    """The answers of a batch come in another order."""
    EMPTY_LOGS = "empty_logs"
    """``eth_getLogs`` says that there are none."""
    PARTIAL_LOGS = "partial_logs"
    """``eth_getLogs`` leaves out the later half."""
    REMOVED_LOGS = "removed_logs"
    """``eth_getLogs`` marks its logs as removed."""
    DUPLICATE_LOGS = "duplicate_logs"
    """``eth_getLogs`` says everything twice."""
    REVERSED_LOGS = "reversed_logs"
    """``eth_getLogs`` gives the newest log first."""
    SILENT_SOCKET = "silent_socket"
    """A websocket stops sending anything for good, while pings work."""
    DUPLICATE_PUSH = "duplicate_push"
    """A notification is sent twice."""
    LOST_PUSH = "lost_push"
    """A notification is not sent."""
    WRONG_CHAIN_ID = "wrong_chain_id"
    """``eth_chainId`` names the next chain."""
    LOST_REPLY = "lost_reply"
    """A sent transaction is taken; then the connection is closed instead of an answer."""
    SWALLOWED = "swallowed"
    """A sent transaction is confirmed with its hash and forgotten."""
    FORGED = "forged"
    """A sent transaction is confirmed with its hash and forgotten; a receipt says that it is in the next block, and its nonce counts."""
    BARE_RECEIPT = "bare_receipt"
    """A receipt without block hash and number."""
    NO_RECEIPT = "no_receipt"
    """A receipt is not found although the transaction is mined."""


class CallFault(Occasional, frozen=True):
    """On a node's calls of this method (empty: of all).

    ``containing``: only calls in whose parameters this text stands. ``one``: the first reply that is struck is struck again in every
    call about it, and no other: a transaction hash, or the contract's function and id at the start of the calldata, tell replies apart.
    """

    target = Target.CHAIN
    method: str = ""
    containing: str = ""
    one: bool = False

    def put_on(self, scene: DrillScene, name: str) -> End:
        return scene.on_nodes(name, lambda node: node.faults.strike(self))

    def meant(self, method: str, params: Sequence[Any]) -> bool:
        if isinstance(method, NodeFault) or self.method not in {"", method}:
            return False
        return self.containing.lower() in json.dumps(params).lower() if self.containing else True

    def about(self, params: Sequence[Any]) -> str:
        return subject_of(params) if self.one else ""

    def act(self, method: str, honest: Honest) -> Any:
        """Give the result instead. Raises NodeError; returns a function to be awaited where the caller must wait."""
        raise NotImplementedError


def subject_of(params: Sequence[Any]) -> str:
    """Return what a call is about: its first parameter, of a call object the function and the id at the start of its calldata."""
    first = params[0] if params else ""
    if isinstance(first, dict):
        return str(first.get("data") or first.get("input") or "")[: _SELECTOR_TEXT + _ID_TEXT]
    return str(first)


class HangingCalls(CallFault, frozen=True):
    """Calls get no answer; others on the same connection do. With `one`, only calls about the first affected reply.

    The row waits for a later look, the others go on; a node that answers nothing at all is dropped after 10 s and
    named after 20 s.
    """

    name = "hang"

    def act(self, _method: str, _honest: Honest) -> Any:
        return _never


async def _never() -> Never:
    await trio.sleep_forever()
    raise AssertionError


class RefusedCalls(CallFault, frozen=True):
    """Calls get this JSON-RPC error.

    A refusal that says nothing about the request is a missing answer: asked again later, named in an alert. That is critical where
    logs cannot be read or no request of a kind passes its checks; of replies alone it is a warning, however many wait.
    """

    name = "error"
    code: int = SERVER_ERROR
    message: str = "internal error"
    data: Any = None
    nested: int = 0  # how deep the data are nested

    def act(self, _method: str, _honest: Honest) -> Any:
        raise NodeError(self.code, self.message, _nested(self.nested) if self.nested else self.data)


class FalseResults(CallFault, frozen=True):
    """Calls get this result and are not executed: a wild estimate, a head of 2^63−1, a chain id of 5,000 digits.

    A result that cannot be true is refused at the edge and named; one that may be true is asked for again before money is spent.
    The chain id is looked at with each connection. `0x` to an `eth_call` of the host chain says that a wallet is no contract,
    which rejects its request.
    """

    name = "answer"
    value: Any = None
    nested: int = 0  # how deep the result is nested, in place of ``value``

    def act(self, _method: str, _honest: Honest) -> Any:
        return _nested(self.nested) if self.nested else self.value


def _nested(depth: int) -> msgspec.Raw:
    return msgspec.Raw(b"[" * depth + b"]" * depth)


class ShortEstimate(CallFault, frozen=True):
    """`eth_estimateGas` returns this share of the needed gas, as when other nodes' replies make ours dearer: replies run out of gas.

    The connector detects out of gas by the gas used and sends the reply again with more. An event reports it, no alert.
    """

    name = "short-estimate"
    method: str = "eth_estimateGas"
    percent: int = 50

    def act(self, _method: str, honest: Honest) -> Any:
        return quantity(from_quantity(honest()) * self.percent // 100)


class Misbehaviour(Occasional, frozen=True):
    """One of the other faults of a node, by the names of `NodeFault` in `kmsconn/emulator/node_faults.py`.

    See docs/outcomes.md, *Hearing* and *Reply*.
    """

    name, target = "misbehave", Target.CHAIN
    how: Literal[*(fault.value for fault in NodeFault)]  # type: ignore[valid-type]
    node: int | None = None  # of its nodes; all without a number

    def put_on(self, scene: DrillScene, name: str) -> End:
        return scene.on_nodes(name, lambda node: node.faults.strike(self, self.how), self.node)


@attrs.define(eq=False)
class NodeFaults(Faulty[CallFault | Misbehaviour]):
    """The faults of one node."""

    forged: dict[bytes, tuple[EmulatedTransaction, int]] = attrs.field(factory=dict, init=False)
    """By hash what was taken and forgotten, with the block of which its receipt speaks."""

    def misbehave(self, how: NodeFault, **chance: Any) -> End:
        """Let a fault happen at its occasions: a ``share`` of them, or ``times``."""
        return self.strike(Misbehaviour(how, **chance), how)

    def happens(self, how: NodeFault) -> bool:
        """Decide whether a fault happens at this occasion, and count it."""
        if not self.injections or self.struck(how) is None:
            return False
        self.counts[how] += 1
        return True

    def of_call(self, method: str, params: Sequence[Any]) -> CallFault | None:
        """Return the fault that strikes this call, the newest first."""
        fault = self.struck(method, params=params)
        return fault if isinstance(fault, CallFault) else None

    def forgeries(self) -> dict[bytes, tuple[EmulatedTransaction, int]]:
        """Return what the node claims to be in blocks and is not, while it does that."""
        lasting = any(one.method == NodeFault.FORGED and one.left is None for one in self.injections)
        return self.forged if lasting else {}

    def heal(self) -> None:
        """End all faults; the counters stay."""
        super().heal()
        self.forged.clear()
