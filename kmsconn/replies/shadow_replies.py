"""Reads from a chain's blocks the replies that an account sent, and compares each with the answer of this connector."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import attrs
import msgspec

from kmsconn.chain.port import Call, Count, Rpc, read
from kmsconn.errors import KmsconnError, Undecodable, Unreachable
from kmsconn.ethereum.abi import SELECTOR_BYTES
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex, quantity, to_hex
from kmsconn.model.requests import Kind
from kmsconn.protocols.port import Operation
from kmsconn.protocols.profile import Profile
from kmsconn.replies.answers import Receipt, read_receipt

BLOCKS_AT_ONCE = 16
"""Blocks with their transactions in one batch: some seconds of the fastest chain, some megabytes of a full one."""
MOST_BLOCKS_BACK = 20_000
"""Blocks below the head that are read: more than an hour of the fastest chain. What was sent before is not compared."""
REMEMBERED_BLOCKS = 4096
"""Hashes of blocks that were read last; a deeper fork is read again from the oldest of them on."""
_WORD = 32
S = TypeVar("S", bound=msgspec.Struct)


class _Transaction(msgspec.Struct):
    hash: str
    sender: str = msgspec.field(name="from")
    to: str | None
    input: str


class _Block(msgspec.Struct, rename="camel"):
    number: Count
    timestamp: Count
    hash: str
    parent_hash: str
    transactions: list[_Transaction] = []


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
    block_hash: bytes = b""
    """Known where its receipt has an event of the contract."""

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

    def rest(self) -> None:
        """Read nothing until ``next_block`` is set."""
        self.next_block = None
        self._read.clear()

    def back_to(self, block: int | None) -> None:
        """Read from a block on again, where it was read."""
        while self._read and block is not None and self._read[-1][0] >= block:
            self.next_block, _ = self._read.pop()

    async def read(self, head: int, wall: float) -> tuple[Sequence[SentReply], bool]:
        """Read on up to a head, at most ``BLOCKS_AT_ONCE`` blocks; return the replies there, and whether there are more blocks.

        Raises Retryable, and then nothing was read. Cancellation: likewise. Repeating: reads only.
        """
        if self.next_block is None:
            return (), False
        begin = max(self.next_block, head - MOST_BLOCKS_BACK)
        last = min(head, begin + BLOCKS_AT_ONCE - 1)
        if last < begin:
            return (), False
        numbers = range(begin, last + 1)
        found = await self.rpc.batch(
            [Call("eth_getBlockByNumber", (quantity(number), True)) for number in numbers]
        )
        blocks = self._in_line([None if block is None else _read(block, _Block) for block in found])
        candidates = [one for block in blocks for one in self._candidates(block, wall)]
        replies = await self._succeeded(candidates)
        for block in blocks:
            self._read.append((int(block.number, 16), block.hash))
            self.next_block = int(block.number, 16) + 1
        return replies, last < head

    def _in_line(self, blocks: Sequence[_Block | None]) -> Sequence[_Block]:
        """Return the blocks up to the first that the node does not have, or whose parent is another one than was read."""
        line: list[_Block] = []
        parent = self._read[-1][1] if self._read else None
        for block in blocks:
            if block is None or (parent is not None and block.parent_hash != parent):
                break
            line.append(block)
            parent = block.hash
        if not line and blocks and blocks[0] is not None:
            number, _ = self._read.pop()  # it is not in the chain any more
            self.next_block = number
        return line

    def _candidates(self, block: _Block, wall: float) -> list[SentReply]:
        """Return the calls of the sender in a block that are replies."""
        mine, found = to_hex(self.sender), []
        for transaction in block.transactions:
            if transaction.sender.lower() != mine or transaction.to is None:
                continue
            try:
                contract, calldata = parse_address(transaction.to), from_hex(transaction.input)
                transaction_hash = from_hex(transaction.hash)
            except ValueError as error:
                raise Unreachable("the node returned a transaction that cannot be decoded") from error
            kind = self._kinds.get((contract, calldata[:SELECTOR_BYTES]))
            if kind is not None and len(calldata) >= SELECTOR_BYTES + _WORD:
                id_ = int.from_bytes(calldata[SELECTOR_BYTES : SELECTOR_BYTES + _WORD])
                place = int(block.number, 16), int(block.timestamp, 16)
                found.append(SentReply(contract, kind, id_, calldata, transaction_hash, *place, wall))
        return found

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
        found = []
        for reply, answer in zip(replies, await self.rpc.batch(calls), strict=True):
            receipt = read_receipt(reply.contract, answer)
            if not isinstance(receipt, Receipt):
                raise Unreachable(f"the node has no receipt of a transaction that it showed: {receipt}")
            if receipt.succeeded:
                found.append(attrs.evolve(reply, block_hash=receipt.block_hash) if receipt.heard else reply)
        return found


def _read(result: Any, kind: type[S]) -> S:
    """Return a result as its struct. Raises Unreachable for every other one."""
    try:
        return read(result, kind)
    except ValueError as error:
        said = f"{result}" if isinstance(result, KmsconnError) else f"what cannot be decoded: {error}"
        raise Unreachable(f"the node answered {said}") from error


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
class ReplyComparison:
    """How two replies stand to each other; ``at``: the offset of the first difference, with its argument and some bytes of each."""

    likeness: Likeness
    at: int | None = None
    field: str | None = None
    ours: str | None = None
    theirs: str | None = None


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
    return ReplyComparison(likeness, at, field, to_hex(ours[shown]), to_hex(theirs[shown]))


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
        decoded = function.decode(ours), function.decode(theirs, exact=False)  # as a contract reads it
        values = zip(function.parameters, *decoded, strict=True)
        found = [(name, operation.may_vary(name, one, two)) for name, one, two in values if one != two]
    except Undecodable:
        found = []
    return found or [(ENCODING, False)]
