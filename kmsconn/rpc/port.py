"""How the rest of the connector talks to a chain. Implemented by ``chain.endpoint``; tests may bring their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from kmsconn.errors import KmsconnError

RPC_CALL_TIMEOUT = 10.0  # seconds for an answer; a connection that keeps one longer is taken for dead


class RpcError(KmsconnError):
    """The node answered with a JSON-RPC error object. ``data`` holds the revert bytes if the node gave any, else None.

    The message is cleaned of control characters: a node puts raw argument bytes into it (fhevm-0.14.md, annex A).
    """

    def __init__(self, code: int, message: str, data: bytes | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.data = code, message, data


@attrs.frozen
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


class PipelinedRpc(Rpc, Protocol):
    """A chain that also takes calls without waiting for the answers to those before."""

    async def each(self, calls: Sequence[Call], take: Callable[[int, Any], None]) -> None:
        """Ask each for itself, all on their way at once over one connection in this order; a node answers them when it likes.

        ``take`` gets what came of each with its place in ``calls``: a result, or the KmsconnError that ``call`` would have raised.
        Cancellation: at any time; ``take`` has had what came until then, or has it now. Repeating: the caller's questions.
        """
        ...
