"""Reads of a contract's logs together with the head of the node that answered; and of single blocks, their hashes, and numbers.

Never moves a cursor, never decodes events. The head is asked *before* the logs in one batch to one node: a node that had the last block
when it was asked for its head has it when it looks for the logs. A node below the end of the range, or one that says no, gives a read that
is not trusted.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

import attrs
import msgspec

from kmsconn.chain.port import Call, Count, JsonBlock, Rpc, RpcError, clean, read
from kmsconn.errors import KmsconnError, Unreachable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address
from kmsconn.ethereum.hexes import from_count, from_hex, quantity

LATEST, FINALIZED = "latest", "finalized"
LOGS_KEPT = 8192  # logs that are remembered: two reorg windows of 130 requests a second, mostly ten megabytes
_LONGEST_KEPT = 6 * 1024  # hex digits of such a log: thirty megabytes at the most
_NEWER = 1000  # blocks; an open range may hold logs of blocks that came after its head was told


@attrs.frozen
class BlockHead:
    """A block as far as it matters here; ``hash`` is None for a node that does not tell it, ``base_fee`` where there is no fee market."""

    number: int
    timestamp: int
    hash: bytes | None
    base_fee: int | None = None
    gas_limit: int | None = None


@attrs.frozen
class LogsRead:
    """What a node said about the blocks ``from_block`` to ``to_block`` of one contract, in block order.

    ``trusted``: the node had the last of these blocks and said nothing else, so what is not here was not there. ``malformed`` says, in
    a few words each, which objects were no logs, or logs that were not asked for: such a one may stand where a log should.
    ``failure`` is set when the node refused the logs; the head counts all the same.
    ``kept`` is the hash of the block that was asked for besides; None where the node has none of that number, or does not tell it.
    """

    head: BlockHead
    logs: tuple[Log, ...]
    trusted: bool
    from_block: int
    to_block: int
    malformed: tuple[str, ...] = ()
    failure: RpcError | None = None
    kept: bytes | None = None


class _JsonPush(msgspec.Struct, rename="camel"):
    block_number: Count


_head_decoder, _push_decoder = msgspec.json.Decoder(JsonBlock), msgspec.json.Decoder(_JsonPush)

_HASH = 32
_is_hash = re.compile(r"0[xX][0-9a-fA-F]{64}").fullmatch


class _JsonLog(msgspec.Struct, frozen=True, rename="camel"):
    address: str
    topics: tuple[str, ...]
    data: str
    block_number: Count
    block_hash: str
    transaction_hash: str
    log_index: Count
    removed: bool = False


_said_of = itemgetter("address", "data", "blockNumber", "blockHash", "transactionHash", "logIndex")
known_logs: OrderedDict[int, Log] = OrderedDict()
"""Logs by the hash of all that was said of them, the oldest first."""


async def read_logs(
    rpc: Rpc,
    contract: Address,
    topics: Sequence[bytes],
    from_block: int,
    to_block: int | None,
    *,
    head: str = LATEST,
    kept: int | None = None,
) -> LogsRead:
    """Ask one node for its head and for the logs of ``contract`` with one of ``topics`` as topic0.

    ``to_block`` None reads up to the node's head: one round trip for a live request, whatever head was known before. ``head`` is the
    name of the block that counts as the head: the finalized one for what must not be reorganised away. ``kept`` is the number of a
    block whose hash is asked for in between: a node that left its branch before it answered for the logs shows it there, and one that
    leaves it afterwards shows it in the next read.

    Raises Unreachable or Overloaded when there is no usable answer, also when the node does not even tell its head.
    Cancellation: at any time. Repeating: harmless.
    """
    criteria = {
        "address": f"0x{contract.hex()}",
        "topics": [[f"0x{topic.hex()}" for topic in topics]],
        "fromBlock": quantity(from_block),
        "toBlock": head if to_block is None else quantity(to_block),
    }
    kept_block = [] if kept is None else [block_call(kept)]
    first, last_call = Call("eth_getBlockByNumber", (head, False)), Call("eth_getLogs", (criteria,))
    block, *between, found = await rpc.batch([first, *kept_block, last_call])
    top = read_block(block)
    last = top.number if to_block is None else to_block
    shown = hash_of(between[0]) if between else None
    if isinstance(found, RpcError):
        return LogsRead(top, (), False, from_block, last, (), found, shown)
    logs, malformed = decode_logs(found)
    whole = len(logs) + len(malformed) == len(found)
    highest = last + _NEWER if to_block is None else to_block
    wanted: dict[tuple[int, int], Log] = {}  # by place; of several at one the first counts
    foreign = []
    for log in logs:
        asked_for = log.address == contract and log.topics[:1] and log.topics[0] in topics
        if not asked_for or not from_block <= log.block_number <= highest:
            foreign.append(f"a log of 0x{log.address.hex()} in block {log.block_number}")
        elif log.block_number <= last:
            wanted.setdefault((log.block_number, log.log_index), log)
    # a node that still shows logs of blocks that it left may leave out those of the blocks that it has now
    trusted = whole and from_block <= last <= top.number and not malformed and not foreign
    ordered = tuple(wanted[place] for place in sorted(wanted))
    return LogsRead(top, ordered, trusted, from_block, last, (*malformed, *foreign), None, shown)


async def read_hash(rpc: Rpc, number: int) -> bytes | None:
    """Ask for the hash of a block; None where the node has no such block, or does not tell. Raises as ``read_logs``."""
    (block,) = await rpc.batch([block_call(number)])
    return hash_of(block)


def hash_of(block: Any) -> bytes | None:
    """Return a block's hash; None of a block that the node lacks, or whose hash it does not tell. Raises as ``read_block``."""
    return None if block is None else read_block(block).hash


def block_call(number: int) -> Call:
    """Return the question for a block, without its transactions."""
    return Call("eth_getBlockByNumber", (quantity(max(0, number)), False))


def read_block(block: Any) -> BlockHead:
    """Read a block. Raises Unreachable when it is none, but what the node said instead."""
    if isinstance(block, RpcError):
        raise Unreachable(f"the node answered {block}") from block
    try:
        head = read(block, JsonBlock)
        return BlockHead(
            int(head.number, 16),
            int(head.timestamp, 16),
            _bytes(head.hash, _HASH) if head.hash is not None and _is_hash(head.hash) else None,
            None if head.base_fee_per_gas is None else int(head.base_fee_per_gas, 16),
            None if head.gas_limit is None else int(head.gas_limit, 16),
        )
    except ValueError as error:
        raise Unreachable(f"the node's head is no block: {clean(str(error))}") from error


def read_found(block: Any) -> BlockHead | None:
    """Return a block, None where the node has none or gives no block."""
    try:
        return None if block is None else read_block(block)
    except KmsconnError:
        return None


def read_number(result: Any, method: str = "eth_blockNumber") -> int:
    """Return the number that a node answered to a method. Raises Unreachable."""
    try:
        return from_count(result)
    except (TypeError, ValueError) as error:
        said = result if isinstance(result, KmsconnError) else "no number"
        raise Unreachable(f"the node's answer to {method} is {said}") from error


def read_pushed_head(push: bytes) -> tuple[int, int]:
    """Read number and timestamp of a block that was pushed, as JSON text. Raises Unreachable when it is no block."""
    try:
        head = _head_decoder.decode(push)
        return int(head.number, 16), int(head.timestamp, 16)
    except (msgspec.DecodeError, ValueError) as error:
        raise Unreachable(f"the pushed head is no block: {clean(str(error))}") from error


def pushed_block(push: bytes) -> float:
    """Return the block of a log that was pushed, as JSON text; inf for what names none."""
    try:
        return int(_push_decoder.decode(push).block_number, 16)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return math.inf


def decode_logs(found: Any) -> tuple[list[Log], tuple[str, ...]]:
    """Read the objects of ``eth_getLogs`` or of a receipt; ``removed`` ones are left out, broken ones told in a few words."""
    if not isinstance(found, list):
        raise Unreachable("the node's answer to eth_getLogs is no list")
    logs: list[Log] = []
    malformed: list[str] = []
    for item in found:
        try:
            if (log := _log(item)) is not None:
                logs.append(log)
        except ValueError as error:
            malformed.append(clean(str(error)))
    return logs, tuple(malformed)


def _log(item: Any) -> Log | None:
    """Return a log, None for a removed one; those of the newest blocks are read again and again. Raises ValueError."""
    try:
        said = hash((*_said_of(item), *item["topics"]))
    except (TypeError, KeyError):  # no log, as is found below
        said = 0
    if (known := known_logs.get(said)) is not None and item.get("removed", False) is False:
        return known
    raw = read(item, _JsonLog)
    if raw.removed:
        return None
    log = Log(
        address=Address(_bytes(raw.address, ADDRESS_BYTES)),
        topics=tuple([_bytes(topic, _HASH) for topic in raw.topics]),
        data=from_hex(raw.data),
        block_number=int(raw.block_number, 16),
        block_hash=_bytes(raw.block_hash, _HASH),
        transaction_hash=from_hex(raw.transaction_hash, _HASH),
        log_index=int(raw.log_index, 16),
    )
    if len(raw.data) <= _LONGEST_KEPT:
        if len(known_logs) >= LOGS_KEPT:
            known_logs.popitem(last=False)
        known_logs[said] = log
    return log


_bytes = lru_cache(1024)(from_hex)
"""Reads what many logs have in common, once for all: their contract, their event, their block."""
