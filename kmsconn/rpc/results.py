"""The results of JSON-RPC methods as msgspec structs: the fields that the connector reads, named as EIP-1474 and geth name them.

Quantities and bytes stay texts here; readers turn them into numbers with ``ethereum.hexes``. Other fields are ignored.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


class JsonBlock(msgspec.Struct, rename="camel"):
    """A block without its transactions (``eth_getBlockByNumber``, ``newHeads``). ``hash`` is None for a node that does not tell it."""

    number: str
    timestamp: str
    hash: str | None = None
    base_fee_per_gas: str | None = None
    gas_limit: str | None = None


class JsonBlockHash(msgspec.Struct):
    """The hash of a block, whatever else the node tells of it."""

    hash: str


class JsonReceipt(msgspec.Struct, rename="camel"):
    """A receipt (``eth_getTransactionReceipt``); without ``block_hash`` its transaction is not in a block."""

    block_hash: str | None
    block_number: str
    status: str
    gas_used: str | None = None


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


def read(result: Any, kind: type[S]) -> S:
    """Return a result as its struct. Raises ValueError that names the field that is missing or of another type."""
    return msgspec.convert(result, kind)  # its ValidationError is a ValueError
