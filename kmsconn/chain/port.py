"""How the rest of the connector talks to a chain, implemented by ``chain.endpoint``, and the results that it reads, as msgspec structs.

Of results the fields are named as EIP-1474 and geth name them. Quantities and bytes stay texts: readers turn them into numbers with
``ethereum.hexes``. Other fields are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Protocol

import msgspec

from kmsconn.errors import KmsconnError
from kmsconn.frozen import frozen

RPC_CALL_TIMEOUT = 10.0  # seconds for an answer; a connection that keeps one longer is taken for dead


class RpcError(KmsconnError):
    """The node answered with a JSON-RPC error object. ``data`` holds the revert bytes if the node gave any, else None.

    The message is cleaned of control characters: a node puts raw argument bytes into it (fhevm-0.14.md, annex A).
    """

    def __init__(self, code: int, message: str, data: bytes | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.data = code, message, data


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
