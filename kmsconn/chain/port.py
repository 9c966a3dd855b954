"""How the rest of the connector talks to a chain, implemented by ``chain.endpoint``, and JSON-RPC 2.0: questions, answers, errors, results.

Each question gets a JSON result; an ``RpcError`` that the caller reads; ``Overloaded`` for a rate limit; ``Unreachable`` where the
node's answer is not JSON-RPC. Results that are read as msgspec structs have fields as EIP-1474 and geth name them. Quantities and bytes
stay texts: readers turn them into numbers with ``ethereum.hexes``. Other fields are ignored. Never does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Protocol

import msgspec

from kmsconn.errors import KmsconnError, Overloaded, Unreachable
from kmsconn.ethereum.hexes import from_hex
from kmsconn.frozen import frozen

_EXECUTION_REVERTED = 3
RPC_CALL_TIMEOUT = 10.0  # seconds for an answer; a connection that keeps one longer is taken for dead


class RpcError(KmsconnError):
    """The node answered with a JSON-RPC error object. ``data`` holds the revert bytes if the node gave any, else None.

    The message is cleaned of control characters: a node puts raw argument bytes into it (fhevm-0.14.md, annex A).
    """

    def __init__(self, code: int, message: str, data: bytes | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.data = code, message, data

    @property
    def is_revert(self) -> bool:
        """Whether it is the contract's no: by its code (geth), its data, or its text."""
        return self.code == _EXECUTION_REVERTED or bool(self.data) or "revert" in self.message.lower()


@frozen
class Call:
    """One JSON-RPC call: the method and its JSON parameters."""

    method: str
    params: tuple[Any, ...] = ()


class Rpc(Protocol):
    """One chain, behind one or several URLs."""

    @property
    def chain_id(self) -> int:
        """The configured chain id, compared with the node's before a connection is used."""
        ...

    async def call(self, method: str, *params: Any) -> Any:
        """Ask one question and return its JSON result.

        Raises RpcError when the node says no, Unreachable or Overloaded when there is no usable answer in ``RPC_CALL_TIMEOUT`` seconds.
        Cancellation: at any time; the answer is dropped when it comes. Repeating: the caller's question.
        """
        ...

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Ask several questions of *one node over one connection*, in order; a result or an RpcError for each.

        Raises Unreachable or Overloaded when there is no usable answer at all.
        """
        ...


class PendingBatch(Protocol):
    """A batch that is on its way."""

    async def results(self) -> list[Any]:
        """Return and raise what ``Rpc.batch`` would have. Cancellation: at any time; ``drop`` it then, too."""
        ...

    def drop(self) -> None:
        """Drop what still comes. Repeating: no effect."""
        ...


class SendingRpc(Rpc, Protocol):
    """A chain to which a batch may be sent now, and its answers be waited for later."""

    def send(self, calls: Sequence[Call]) -> PendingBatch | None:
        """Send a batch at once, which must be dropped in the end; None where that takes waiting: then ask by ``batch``."""
        ...


class PipelinedRpc(Rpc, Protocol):
    """A chain that also takes calls without waiting for the answers to those before."""

    async def each(self, calls: Sequence[Call], take: Callable[[int, Any], None]) -> None:
        """Ask each for itself, all on their way at once over one connection in this order; a node answers them when it likes.

        ``take`` gets what came of each with its place in ``calls``: a result, or the KmsconnError that ``call`` would have raised.
        Cancellation: at any time; ``take`` has had what came until then, or has it now. Repeating: the caller's questions.
        """
        ...


Quantity = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-fA-F]{1,64}\Z")]
"""What ``hexes.from_quantity`` takes; once it is known to be one, ``int`` reads it at once."""
Count = Annotated[str, msgspec.Meta(pattern=r"^0x0{0,50}1?[0-9a-fA-F]{1,13}\Z")]
"""What ``hexes.from_count`` takes: a quantity below 2^53."""


class JsonBlock(msgspec.Struct, rename="camel"):
    """A block without its transactions (``eth_getBlockByNumber``, ``newHeads``). ``hash`` is None for a node that does not tell it."""

    number: Count
    timestamp: Count
    hash: str | None = None
    base_fee_per_gas: Quantity | None = None
    gas_limit: Quantity | None = None


class JsonBlockHash(msgspec.Struct):
    """The hash of a block, and those of its transactions, whatever else the node tells of it."""

    hash: str
    transactions: list[Any] = []


class JsonLogOrigin(msgspec.Struct):
    """The contract that emitted a log."""

    address: str


class JsonReceipt(msgspec.Struct, rename="camel"):
    """A receipt (``eth_getTransactionReceipt``); without ``block_hash`` its transaction is not in a block."""

    block_hash: str | None
    block_number: Count
    status: Quantity
    gas_used: Quantity | None = None
    logs: list[JsonLogOrigin] = []


@frozen
class Receipt:
    """A mined transaction: its block, whether it did what it should, and the gas that it used where the node says so.

    ``heard``: the contract emitted something, as each does that takes a reply.
    """

    block: int
    succeeded: bool
    gas_used: int | None = None
    block_hash: bytes = b""
    heard: bool = False

    def used_up(self, gas_limit: int) -> bool:
        """Say whether a failed transaction ran out of gas.

        A contract keeps a 64th of the gas when it calls another one (EIP-150), and ends with that when the other one ran out.
        """
        used = self.gas_used
        return not self.succeeded and used is not None and used >= gas_limit - gas_limit // 64


class JsonTransaction(msgspec.Struct):
    """A transaction (``eth_getTransactionByHash``); ``to`` is None where it made a contract."""

    to: str | None
    input: str


class JsonTrace(msgspec.Struct):
    """The top frame of a ``callTracer`` (``debug_traceTransaction``)."""

    error: str | None = "failed"
    output: str | None = "0x"


class JsonFeeHistory(msgspec.Struct):
    """``eth_feeHistory``: for each block the rewards at the percentiles that were asked for."""

    reward: list[list[str]] | None


read = msgspec.convert
"""Return a result as its struct. Raises ValueError that names the field that is missing or of another type."""


MAX_MESSAGE = 300  # characters of a node's message that are kept

# EIP-1474 (-32005), HTTP's number used as a code, and what common providers and public nodes use.
OVERLOAD_CODES = frozenset({-32005, 429, -32007, -32016, -32029, -32090})
_OVERLOAD = re.compile(r"(?i)rate.?limit|too many requests|request limit|throttl|capacity exceeded|quota")

# -32005 is also what some nodes answer to a range that is too wide: that is for the cursor to mend, not for patience.
_TOO_WIDE = re.compile(
    r"(block|query|logs?) range|range (is )?too|range limit|query returned more|too many (results|logs|blocks)|"
    r"response size|maximum .*(blocks|range)|max(imum)? results|limited to .*block|more than \d+ (results|logs|blocks)|"
    r"(query|request) timeout|query timed out",
    re.IGNORECASE,
)
# A node that does not have the end of the range yet speaks of ranges too.
_BEYOND_HEAD = re.compile(r"(?i)beyond|past.*head|future|unknown block|header not found|greater than latest")
_CODES = 2**31  # JSON-RPC 2.0 names numbers of five digits; nodes use other small ones
_REVERT_DATA = re.compile(r"(?:Reverted )?(0x[0-9a-fA-F]*)")


class _Wire(msgspec.Struct):
    """One object off the wire; which kind it is shows in the fields that are there."""

    id: Any = None
    result: Any = msgspec.UNSET
    error: msgspec.Raw = msgspec.Raw(b"null")
    method: Any = None
    params: msgspec.Raw = msgspec.Raw()


class RpcAnswer(msgspec.Struct, frozen=True):
    """The answer to question ``id``: a JSON result or an RpcError. None: an error that is about everything that was asked."""

    id: int | None
    outcome: Any


class Notification(msgspec.Struct, frozen=True):
    """Something that happened, for a subscription. It stays JSON text: most who are notified do not read it."""

    subscription: str
    result: msgspec.Raw


Message = RpcAnswer | Notification

_NULL = msgspec.Raw(b"null")
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[_Wire | list[_Wire]] = msgspec.json.Decoder(_Wire | list[_Wire])
_pushed_decoder = msgspec.json.Decoder(Notification)


def encode(first_id: int, calls: Sequence[Call], *, batch: bool) -> bytes:
    """Write questions with the ids from ``first_id`` on: one array if ``batch``, else the one object."""
    objects = [
        {"jsonrpc": "2.0", "id": number, "method": call.method, "params": call.params}
        for number, call in enumerate(calls, first_id)
    ]
    return _encoder.encode(objects if batch else objects[0])


def decode(data: bytes | str) -> list[Message]:
    """Read what a node sent. Objects that are neither answer nor notification are left out.

    Raises Unreachable when it is no JSON-RPC.
    """
    try:
        wire = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreachable(f"the node's answer is no JSON-RPC: {clean(str(error))}") from error
    messages: list[Message] = []
    for one in wire if isinstance(wire, list) else [wire]:
        if not isinstance(one.method, str):
            outcome = one.result if one.error == _NULL else rpc_error(bytes(one.error))
            if type(one.id) is int and outcome is not msgspec.UNSET:
                messages.append(RpcAnswer(one.id, outcome))
            elif isinstance(outcome, RpcError):
                messages.append(RpcAnswer(None, outcome))
        elif one.method == "eth_subscription":
            try:
                messages.append(_pushed_decoder.decode(one.params))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
    return messages


def rpc_error(text: bytes) -> RpcError:
    """Read an error object, however crooked: code 0 and its own text where it has no code and no message.

    The text is never written anew: what could just be read, nested deeply, may be too deep for a writer.
    """
    try:
        error = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        error = None
    fields = error if isinstance(error, dict) else {"message": error}
    code, message = fields.get("code"), fields.get("message")
    shown = message if isinstance(message, str) else text[: 4 * MAX_MESSAGE].decode(errors="replace")
    known = code if type(code) is int and abs(code) < _CODES else 0
    return RpcError(known, clean(shown), _revert_data(fields.get("data")))


def _revert_data(data: Any) -> bytes | None:
    """Find revert bytes: plain hex, hex after a word, or either inside an object's ``data``."""
    if isinstance(data, dict):
        data = data.get("data")
    found = _REVERT_DATA.fullmatch(data) if isinstance(data, str) else None
    if found is None:
        return None
    try:
        return from_hex(found[1])
    except ValueError:
        return None


def clean(text: str) -> str:
    """Return a node's text without control and other unprintable characters, and short."""
    printable = "".join(one if one.isprintable() else " " for one in text[: 4 * MAX_MESSAGE])
    joined = " ".join(printable.split())
    return joined if len(joined) <= MAX_MESSAGE else joined[: MAX_MESSAGE - 1] + "…"


def is_range_limit(error: RpcError) -> bool:
    """Say whether a node refused ``eth_getLogs`` because it was asked for too much at once."""
    return bool(_TOO_WIDE.search(error.message)) and not _BEYOND_HEAD.search(error.message)


def is_overload(error: RpcError) -> bool:
    """Say whether a node asks for fewer questions."""
    if is_range_limit(error):
        return False
    return error.code in OVERLOAD_CODES or bool(_OVERLOAD.search(error.message))


def call_result(outcome: Any) -> Any:
    """Return the result of one question. Raises RpcError, or Overloaded for a rate limit."""
    result = each_result(outcome)
    if isinstance(result, (RpcError, Overloaded)):
        raise result
    return result


def each_result(outcome: Any) -> Any:
    """Return the result of one question, or the error that ``call_result`` raises."""
    return Overloaded(str(outcome)) if isinstance(outcome, RpcError) and is_overload(outcome) else outcome


def batch_results(outcomes: Sequence[Any], name: str = "") -> list[Any]:
    """Return a batch's outcomes as they are. Raises Overloaded, of ``name``, only when the rate limit left no usable answer at all."""
    if outcomes and all(isinstance(outcome, RpcError) and is_overload(outcome) for outcome in outcomes):
        raise Overloaded(str(outcomes[0])).of(name) from outcomes[0]
    return list(outcomes)
