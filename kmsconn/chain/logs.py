"""One read of a contract's logs together with the head of the node that answered. Never moves a cursor, never decodes events.

The head is asked *before* the logs in one batch to one node: a node that had the last block when it was asked for its head has it
when it looks for the logs. A node below the end of the range, or one that says no, gives a read that is not trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import attrs
import msgspec

from kmsconn.chain.jsonrpc import clean
from kmsconn.chain.port import Call, Rpc, RpcError
from kmsconn.errors import Unreachable
from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address
from kmsconn.ethereum.hexes import from_count, from_hex, quantity, to_hex
from kmsconn.ethereum.logs import Log

LATEST, FINALIZED = "latest", "finalized"
_HASH_BYTES = 32


@attrs.frozen
class LogsRead:
    """What a node said about the blocks ``from_block`` to ``to_block`` of one contract, in block order.

    ``trusted``: the node had the last of these blocks, so what is not here was not there. ``malformed`` says, in a few words
    each, which objects were no logs. ``failure`` is set when the node refused the logs; the head counts all the same.
    """

    head_number: int
    head_timestamp: int
    logs: tuple[Log, ...]
    trusted: bool
    from_block: int
    to_block: int
    malformed: tuple[str, ...] = ()
    failure: RpcError | None = None


class _Head(msgspec.Struct):
    number: str
    timestamp: str


_head_decoder = msgspec.json.Decoder(_Head)


class _JsonLog(msgspec.Struct, rename="camel"):
    address: str
    topics: list[str]
    data: str
    block_number: str
    block_hash: str
    transaction_hash: str
    log_index: str
    removed: bool = False


async def read_logs(
    rpc: Rpc,
    contract: Address,
    topics: Sequence[bytes],
    from_block: int,
    to_block: int | None,
    *,
    head: str = LATEST,
) -> LogsRead:
    """Ask one node for its head and for the logs of ``contract`` with one of ``topics`` as topic0.

    ``to_block`` None reads up to the node's head: one round trip for a live request, whatever head was known before. ``head`` is the
    name of the block that counts as the head: the finalized one for what must not be reorganised away.

    Raises Unreachable or Overloaded when there is no usable answer, RpcError when the node does not even tell its head.
    Cancellation: at any time. Repeating: harmless.
    """
    criteria = {
        "address": to_hex(contract),
        "topics": [[to_hex(topic) for topic in topics]],
        "fromBlock": quantity(from_block),
        "toBlock": head if to_block is None else quantity(to_block),
    }
    block, found = await rpc.batch(
        [Call("eth_getBlockByNumber", (head, False)), Call("eth_getLogs", (criteria,))]
    )
    number, timestamp = read_head(block)
    last = number if to_block is None else to_block
    if isinstance(found, RpcError):
        return LogsRead(
            number, timestamp, (), trusted=False, from_block=from_block, to_block=last, failure=found
        )
    logs, malformed = decode_logs(found)
    whole = not any(isinstance(item, dict) and item.get("removed") is True for item in found)
    wanted = (
        log for log in logs if _is_wanted(log, contract, topics) and from_block <= log.block_number <= last
    )
    # a node that still shows logs of blocks that it left may leave out those of the blocks that it has now
    trusted = whole and from_block <= last <= number
    return LogsRead(number, timestamp, _in_order(wanted), trusted, from_block, last, malformed)


def read_head(block: Any) -> tuple[int, int]:
    """Read number and timestamp of a block. Raises the RpcError that it may be, Unreachable when it is no block."""
    if isinstance(block, RpcError):
        raise block
    try:
        head = msgspec.convert(block, _Head)
        return from_count(head.number), from_count(head.timestamp)
    except (msgspec.ValidationError, ValueError) as error:
        raise Unreachable(f"the node's head is no block: {clean(str(error))}") from error


def read_pushed_head(push: bytes) -> tuple[int, int]:
    """Read number and timestamp of a block that was pushed, as JSON text. Raises Unreachable when it is no block."""
    try:
        head = _head_decoder.decode(push)
        return from_count(head.number), from_count(head.timestamp)
    except (msgspec.DecodeError, ValueError) as error:
        raise Unreachable(f"the pushed head is no block: {clean(str(error))}") from error


def decode_logs(found: Any) -> tuple[list[Log], tuple[str, ...]]:
    """Read the objects of ``eth_getLogs`` or of a receipt; ``removed`` ones are left out, broken ones told in a few words."""
    if not isinstance(found, list):
        raise Unreachable("the node's answer to eth_getLogs is no list")
    logs: list[Log] = []
    malformed: list[str] = []
    for item in found:
        try:
            log = decode_log(item)
        except ValueError as error:
            malformed.append(clean(str(error)))
        else:
            logs.extend([log] if log is not None else [])
    return logs, tuple(malformed)


def decode_log(item: Any) -> Log | None:
    """Read one JSON log; None for a removed one. Raises ValueError that says what is wrong."""
    raw = msgspec.convert(item, _JsonLog)  # its ValidationError is a ValueError
    if raw.removed:
        return None
    return Log(
        address=Address(_shared(raw.address, ADDRESS_BYTES, "address")),
        topics=tuple([_shared(topic, _HASH_BYTES, "topic") for topic in raw.topics]),
        data=from_hex(raw.data),
        block_number=from_count(raw.block_number),
        block_hash=_shared(raw.block_hash, _HASH_BYTES, "block hash"),
        transaction_hash=_fixed(raw.transaction_hash, _HASH_BYTES, "transaction hash"),
        log_index=from_count(raw.log_index),
    )


def _fixed(text: str, size: int, what: str) -> bytes:
    data = from_hex(text)
    if len(data) != size:
        raise ValueError(f"a {what} of {len(data)} bytes")
    return data


_shared = lru_cache(1024)(_fixed)
"""For what many logs have in common: their contract, their event, their block."""


def _is_wanted(log: Log, contract: Address, topics: Sequence[bytes]) -> bool:
    return log.address == contract and bool(log.topics) and log.topics[0] in topics


def _in_order(logs: Iterable[Log]) -> tuple[Log, ...]:
    """Sort by place; of several at one place the first counts."""
    places: dict[tuple[int, int], Log] = {}
    for log in logs:
        places.setdefault((log.block_number, log.log_index), log)
    return tuple(places[place] for place in sorted(places))
