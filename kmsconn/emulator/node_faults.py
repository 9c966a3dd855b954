"""What a node says when it refuses, and what a faulty one does wrong: how often, scripted or drawn, and which calls a rule spoils.

Performs no fault itself. Each fault draws from a generator of its own, so that turning one knob never moves when another fault happens.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from random import Random
from typing import Any, Final, Never

import attrs
import trio

from kmsconn.emulator.blocks import Transaction
from kmsconn.errors import KmsconnError

SERVER_ERROR: Final = -32000
INVALID_PARAMS: Final = -32602
METHOD_NOT_FOUND: Final = -32601
INVALID_REQUEST: Final = -32600
PARSE_ERROR: Final = -32700
LIMIT_EXCEEDED: Final = -32005
PRUNED_HISTORY: Final = 4444
EXECUTION_REVERTED: Final = 3
SYNC_TIMEOUT: Final = 4

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
    return f"{text}: {_readable(arguments)}" if arguments else text


def _readable(arguments: bytes) -> str:
    try:
        return arguments.decode()
    except UnicodeDecodeError:
        return arguments.hex()


Honest = Callable[[], Any]
"""Carries the call out. Raises NodeError."""
Spoiled = Callable[[Honest], Any]
"""Gives the result instead. Raises NodeError; returns a function to be awaited where the caller must wait."""

_SELECTOR_TEXT = len("0x") + 8
_ID_TEXT = 64


@attrs.define(eq=False)
class CallRule:
    """One rule. ``share`` of the calls of ``methods`` (none named: of all) are struck, ``times`` of them in all (None: no end).

    ``containing``: only calls in whose parameters this text stands. ``one``: the first reply that is struck is struck again in every
    call about it, and no other: a transaction hash, or the contract's function and id at the start of the calldata, tell replies apart.
    """

    act: Spoiled
    methods: frozenset[str] = frozenset()
    share: float = 1.0
    times: int | None = None
    containing: str = ""
    one: bool = False
    random: Random = attrs.field(factory=lambda: Random(0), repr=False)
    _chosen: str = ""

    def strikes(self, method: str, params: Sequence[Any]) -> bool:
        """Decide about one call, and count it."""
        if self.times == 0 or (self.methods and method not in self.methods):
            return False
        if self.containing and self.containing.lower() not in json.dumps(params).lower():
            return False
        if self.one and self._chosen and subject_of(params) != self._chosen:
            return False
        if self.random.random() >= self.share:
            return False
        self._chosen = self._chosen or subject_of(params)
        self.times = None if self.times is None else self.times - 1
        return True


def subject_of(params: Sequence[Any]) -> str:
    """Return what a call is about: its first parameter, of a call object the function and the id at the start of its calldata."""
    first = params[0] if params else ""
    if isinstance(first, dict):
        return str(first.get("data") or first.get("input") or "")[: _SELECTOR_TEXT + _ID_TEXT]
    return str(first)


def hanging(honest: Honest) -> Any:
    """Never answer; the call is not carried out."""
    del honest
    return _never


async def _never() -> Never:
    await trio.sleep_forever()
    raise AssertionError


class NodeFault(StrEnum):
    """What a node can do wrong (the network's own faults, such as refusing or resetting, are elsewhere)."""

    HANG = "hang"
    """The request is taken and never answered."""
    SLOW = "slow"
    """The answer comes ``slow_seconds`` late."""
    HANG_UP = "hang_up"
    """The connection is closed before the request is carried out."""
    RATE_LIMITED = "rate_limited"
    """HTTP 429, with Retry-After when ``retry_after`` is set; over a websocket the error −32005."""
    BAD_GATEWAY = "bad_gateway"
    """HTTP 502."""
    UNAVAILABLE = "unavailable"
    """HTTP 503, with Retry-After when ``retry_after`` is set."""
    TRUNCATED = "truncated"
    """The JSON text ends in the middle."""
    NOT_JSON = "not_json"
    """HTML with status 200."""
    WRONG_ID = "wrong_id"
    """The answer carries another id."""
    SHUFFLED = "shuffled"
    """The answers of a batch come in another order."""
    ERROR = "error"
    """A call is answered with ``error``."""
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
    SYNC_TIMEOUT = "sync_timeout"
    """``eth_sendRawTransactionSync`` takes the transaction and says error 4 at once."""
    SHORT_ESTIMATE = "short_estimate"
    """``eth_estimateGas`` says half of what is needed."""
    BARE_RECEIPT = "bare_receipt"
    """A receipt without block hash and number."""
    NO_RECEIPT = "no_receipt"
    """A receipt is not found although the transaction is mined."""


class NodeFaults:
    """Probabilities and scripts of one node's faults. All knobs may be turned at any time."""

    def __init__(self, seed: int = 0) -> None:
        self.probability: dict[NodeFault, float] = {}
        self.happened: Counter[NodeFault] = Counter()
        self.slow_seconds = 2.0
        self.retry_after: float | None = None
        self.error = NodeError(LIMIT_EXCEEDED, "limit exceeded")
        self.rules: list[CallRule] = []
        self.forged: dict[bytes, tuple[Transaction, int]] = {}
        """By hash what was taken and forgotten, with the block of which its receipt speaks."""
        self._seed = seed
        self._scripted: Counter[NodeFault] = Counter()
        self._generators: dict[NodeFault, Random] = {}
        self._answers: dict[str, deque[NodeError]] = {}

    def script(self, fault: NodeFault, times: int = 1) -> None:
        """Let the fault happen at its next ``times`` occasions."""
        self._scripted[fault] += times

    def scripted(self, fault: NodeFault) -> int:
        """Return at how many further occasions the fault was ordered to happen."""
        return self._scripted[fault]

    def answer(self, method: str, error: NodeError, times: int = 1) -> None:
        """Let the next ``times`` calls of ``method`` be answered with ``error``, without being carried out."""
        self._answers.setdefault(method, deque()).extend([error] * times)

    def happens(self, fault: NodeFault) -> bool:
        """Decide whether the fault happens at this occasion, and count it."""
        if not (self._scripted or self.probability):
            return False
        if self._scripted[fault]:
            self._scripted[fault] -= 1
        elif not self._drawn(fault):
            return False
        self.happened[fault] += 1
        return True

    def _drawn(self, fault: NodeFault) -> bool:
        probability = self.probability.get(fault, 0.0)
        if not probability:
            return False
        generator = self._generators.get(fault)
        if generator is None:
            generator = self._generators[fault] = Random(f"{self._seed} {fault}")
        return generator.random() < probability

    def forgeries(self) -> dict[bytes, tuple[Transaction, int]]:
        """Return what the node claims to be in blocks and is not, while it does that."""
        return self.forged if self.probability.get(NodeFault.FORGED) else {}

    def error_for(self, method: str) -> NodeError | None:
        """Return the error with which this call of ``method`` is answered, if any."""
        scripted = self._answers.get(method)
        if scripted:
            self.happened[NodeFault.ERROR] += 1
            return scripted.popleft()
        return self.error if self.happens(NodeFault.ERROR) else None

    def rule_for(self, method: str, params: Sequence[Any]) -> CallRule | None:
        """Return the rule that strikes this call, the newest first."""
        return next((rule for rule in reversed(self.rules) if rule.strikes(method, params)), None)

    def heal(self) -> None:
        """End all faults; the counters stay."""
        self.rules.clear()
        self.forged.clear()
        self.probability.clear()
        self._scripted.clear()
        self._answers.clear()
