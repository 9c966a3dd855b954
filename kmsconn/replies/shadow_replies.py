"""Reads from a chain's blocks the replies that an account sent, and compares each with the answer of this connector."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import attrs

from kmsconn.chain.port import Call, Rpc
from kmsconn.errors import KmsconnError, Undecodable, Unreachable
from kmsconn.ethereum.abi import SELECTOR_BYTES, Function
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_count, from_hex, quantity, to_hex
from kmsconn.model.requests import Kind
from kmsconn.protocols.port import Operation
from kmsconn.protocols.profile import Profile

HEAD = Call("eth_blockNumber")
BLOCKS_AT_ONCE = 16
"""Blocks with their transactions in one batch: some seconds of the fastest chain, some megabytes of a full one."""
MOST_BLOCKS_BACK = 20_000
"""Blocks below the head that are read: more than an hour of the fastest chain. What was sent before is not compared."""
REMEMBERED_BLOCKS = 4096
"""Hashes of blocks that were read last; a deeper fork is read again from the oldest of them on."""
_WORD = 32


@attrs.frozen
class SentReply:
    """A reply in a block: to which request of which contract, its calldata, and where it stands. ``seen``: wall time of the read."""

    contract: Address
    kind: Kind
    id: int
    calldata: bytes = attrs.field(repr=False)
    transaction_hash: bytes
    block: int
    timestamp: int
    seen: float

    @property
    def included_at(self) -> float:
        """The wall time of its inclusion as far as it is known: a block tells whole seconds, and this process may have read it late."""
        return min(max(self.seen, float(self.timestamp)), self.timestamp + 1.0)


@attrs.define
class ReplyReader:
    """Reads one chain while it is asked to: ``next_block`` is the first block that was not read, None while it rests."""

    rpc: Rpc
    profile: Profile
    sender: Address
    next_block: int | None = None
    _read: deque[tuple[int, str]] = attrs.field(factory=lambda: deque(maxlen=REMEMBERED_BLOCKS))
    """Number and hash of the blocks that were read last."""

    def begin(self, block: int) -> None:
        """Read from a block on. Repeating: no effect while it reads."""
        if self.next_block is None:
            self.next_block = block

    def rest(self) -> None:
        """Read nothing until the next ``begin``."""
        self.next_block = None
        self._read.clear()

    async def read(self, wall: float) -> tuple[Sequence[SentReply], bool]:
        """Read on, at most ``BLOCKS_AT_ONCE`` blocks; return the replies there, and whether there are more blocks.

        Raises Retryable, and then nothing was read. Cancellation: likewise. Repeating: reads only.
        """
        if self.next_block is None:
            return (), False
        head = _number(await self._one(HEAD))
        begin = max(self.next_block, head - MOST_BLOCKS_BACK)
        last = min(head, begin + BLOCKS_AT_ONCE - 1)
        if last < begin:
            return (), False
        numbers = range(begin, last + 1)
        found = await self.rpc.batch(
            [Call("eth_getBlockByNumber", (quantity(number), True)) for number in numbers]
        )
        blocks = self._in_line([_usable(block) for block in found])
        candidates = [one for block in blocks for one in self._candidates(block, wall)]
        replies = await self._succeeded(candidates)
        self._note(blocks)
        return replies, last < head

    async def _one(self, call: Call) -> Any:
        return _usable((await self.rpc.batch([call]))[0])

    def _in_line(self, blocks: Sequence[Any]) -> Sequence[Any]:
        """Return the blocks up to the first that the node does not have, or whose parent is another one than was read."""
        line: list[Any] = []
        parent = self._read[-1][1] if self._read else None
        for block in blocks:
            if block is None or (parent is not None and _text(block, "parentHash") != parent):
                break
            line.append(block)
            parent = _text(block, "hash")
        if not line and blocks and blocks[0] is not None:
            number, _ = self._read.pop()  # it is not in the chain any more
            self.next_block = number
        return line

    def _note(self, blocks: Sequence[Any]) -> None:
        for block in blocks:
            number = _number(block.get("number"))
            self._read.append((number, _text(block, "hash")))
            self.next_block = number + 1

    def _candidates(self, block: Any, wall: float) -> list[SentReply]:
        """Return the calls of the sender in a block that are replies."""
        number, timestamp = _number(block.get("number")), _number(block.get("timestamp"))
        mine = to_hex(self.sender)
        found = []
        for transaction in block.get("transactions") or ():
            if not isinstance(transaction, dict) or str(transaction.get("from")).lower() != mine:
                continue
            reply = self._reply(transaction, number, timestamp, wall)
            if reply is not None:
                found.append(reply)
        return found

    def _reply(
        self, transaction: Mapping[str, Any], block: int, timestamp: int, wall: float
    ) -> SentReply | None:
        to = transaction.get("to")
        if to is None:
            return None
        try:
            contract, calldata = parse_address(to), from_hex(transaction.get("input"))
            transaction_hash = from_hex(transaction["hash"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unreachable("the node returned a transaction that cannot be decoded") from error
        kind = self._kinds.get((contract, calldata[:SELECTOR_BYTES]))
        if kind is None or len(calldata) < SELECTOR_BYTES + _WORD:
            return None
        identifier = int.from_bytes(calldata[SELECTOR_BYTES : SELECTOR_BYTES + _WORD])
        return SentReply(contract, kind, identifier, calldata, transaction_hash, block, timestamp, wall)

    @property
    def _kinds(self) -> Mapping[tuple[Address, bytes], Kind]:
        return {
            (one.contract[1], one.reply.selector): one.kind
            for one in self.profile.operations.values()
            if one.reply is not None and one.contract[0] == self.rpc.chain_id
        }

    async def _succeeded(self, replies: Sequence[SentReply]) -> Sequence[SentReply]:
        """Return the replies whose transactions did not fail. Raises Unreachable where a node does not know one that it showed."""
        if not replies:
            return ()
        calls = [Call("eth_getTransactionReceipt", (to_hex(one.transaction_hash),)) for one in replies]
        receipts = [_usable(receipt) for receipt in await self.rpc.batch(calls)]
        if not all(isinstance(receipt, dict) for receipt in receipts):
            raise Unreachable("the node has no receipt of a transaction that it showed")
        return [one for one, receipt in zip(replies, receipts, strict=True) if _number(receipt.get("status"))]


def _usable(result: Any) -> Any:
    if isinstance(result, KmsconnError):
        raise Unreachable(f"the node answered {result}") from result
    return result


def _number(value: Any) -> int:
    try:
        return from_count(value)
    except (TypeError, ValueError) as error:
        raise Unreachable("the node returned a block that cannot be decoded") from error


def _text(block: Any, name: str) -> str:
    found = block.get(name) if isinstance(block, dict) else None
    if not isinstance(found, str):
        raise Unreachable("the node returned a block that cannot be decoded")
    return found


SHOWN_BYTES = 8
"""Bytes of both replies that are shown from the first difference on."""
SELECTOR, ENCODING = "selector", "encoding"
"""What differs where it is no argument: the function, or the way in which equal arguments are written."""


class Likeness(StrEnum):
    """How two replies to one request stand to each other."""

    EQUAL = "equal"  # all bytes
    RECOMPUTED = "recomputed"  # the Core computed twice, and only what it may give otherwise differs
    DIFFERENT = "different"


@attrs.frozen
class ReplyDifference:
    """Where two replies differ first: the offset in the calldata, the argument, and some bytes of each from there on."""

    at: int
    field: str
    ours: bytes
    theirs: bytes


@attrs.frozen
class ReplyComparison:
    """What comparing came to; ``difference`` is None for equal replies."""

    likeness: Likeness
    difference: ReplyDifference | None = None


def compare(operation: Operation[Any], ours: bytes, theirs: bytes) -> ReplyComparison:
    """Compare the calldata of this connector with that of another one."""
    if ours == theirs:
        return ReplyComparison(Likeness.EQUAL)
    fields = differing_fields(operation, ours, theirs)
    wrong = [field for field, may_vary in fields if not may_vary]
    likeness = Likeness.DIFFERENT if wrong else Likeness.RECOMPUTED
    at = first_difference(ours, theirs)
    shown = slice(at, at + SHOWN_BYTES)
    field = wrong[0] if wrong else fields[0][0]
    return ReplyComparison(likeness, ReplyDifference(at, field, ours[shown], theirs[shown]))


def first_difference(one: bytes, other: bytes) -> int:
    """Return the first offset at which two texts differ; the length of the shorter one where it is the beginning of the other."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def differing_fields(operation: Operation[Any], ours: bytes, theirs: bytes) -> list[tuple[str, bool]]:
    """Return the arguments that differ, each with whether a Core may give it otherwise; never nothing for other bytes."""
    function = operation.reply
    if function is None or ours[:SELECTOR_BYTES] != theirs[:SELECTOR_BYTES]:
        return [(SELECTOR, False)]
    try:
        values = zip(function.parameters, function.decode(ours), _decoded(function, theirs), strict=True)
        found = [(name, operation.may_vary(name, one, two)) for name, one, two in values if one != two]
    except Undecodable:
        found = []
    return found or [(ENCODING, False)]


def _decoded(function: Function, calldata: bytes) -> tuple[Any, ...]:
    """Read what a contract reads, which takes more than one way of writing."""
    return function.decode(calldata, exact=False)
