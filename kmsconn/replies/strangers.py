"""Looks for transactions that this node's account signed and this process did not: whoever sent one has the account's key.

A missing receipt proves nothing, for a node may lag or lie. So a nonce that was used without a receipt of ours is looked up in the blocks
where the account's nonce moved, once these are older than the reorg window. A transaction there counts only if its signature is that of
the account: no node can forge one. On a good day each nonce has its receipt by then, and no block is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import attrs
import msgspec
import trio

from kmsconn.chain.looking import ChainView
from kmsconn.chain.port import Call, Count, Quantity, Rpc, read
from kmsconn.errors import Retryable, Undecodable, Unreachable
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex, quantity, to_hex
from kmsconn.ethereum.transactions import SignedTransaction, Transaction, decode_transaction
from kmsconn.frozen import frozen
from kmsconn.model.events import ForeignTransaction
from kmsconn.replies.view import top

BLOCKS_AT_ONCE = 16  # blocks with their transactions in one batch
MOST_BLOCKS = 64  # in which a nonce is looked for: more pass between two looks only if the chain is away
MOST_MOVES = 64  # nonces that wait to be looked for; two strangers are enough
MOST_OWN = 8192  # nonces of which the hashes are remembered: many times those in flight
LATER = 2  # blocks: a node reads the nonce after the head, and may be further by then
PAUSE = 5.0  # seconds after a node did not show the blocks
GIVEN_UP = 600.0  # seconds after which a nonce is looked for no more


class _Sent(msgspec.Struct, rename="camel"):
    """A signed transaction in a block; other types than legacy and EIP-1559 cannot be verified."""

    nonce: Count
    gas: Quantity
    value: Quantity
    input: str
    to: str
    r: Quantity
    s: Quantity
    v: Quantity
    type: Quantity = "0x0"
    gas_price: Quantity = "0x0"
    max_fee_per_gas: Quantity = "0x0"
    max_priority_fee_per_gas: Quantity = "0x0"


class _Block(msgspec.Struct):
    number: Count
    timestamp: Count
    transactions: list[dict[str, Any]]


@frozen
class NonceMove:
    """The nonce was used in one of the blocks above ``after`` and not above ``upto``; that was first seen ``at``."""

    after: int
    upto: int
    at: float


@attrs.define
class OwnTransactions:
    """The hashes of all transactions that this process signed or found in its journal, by nonce: the newest nonces only."""

    _hashes: dict[int, set[bytes]] = attrs.field(factory=dict)

    def note(self, nonce: int, transaction_hash: bytes) -> None:
        """Note a transaction. Repeating: no effect."""
        if nonce not in self._hashes and len(self._hashes) >= MOST_OWN:
            del self._hashes[next(iter(self._hashes))]
        self._hashes.setdefault(nonce, set()).add(transaction_hash)

    def __contains__(self, signed: SignedTransaction) -> bool:
        """Say whether a transaction is one of them."""
        return signed.hash in self._hashes.get(signed.transaction.nonce, ())


@attrs.define(eq=False)
class Strangers:
    """Looks for them on one chain. ``began``: the wall time of the start; blocks of before are a former process's."""

    rpc: Rpc
    account: Address
    chain: str
    began: float
    own: OwnTransactions
    on_event: Callable[[ForeignTransaction], object]
    _moves: dict[int, NonceMove] = attrs.field(factory=dict)
    """The nonces that were used, and no receipt says by what."""
    _least: int | None = None
    """A process before this one may have used the nonces below."""
    _top: int = 0
    _seen: int = 0
    """The head at the last look."""
    _again: float = -math.inf
    _reads: bool = False

    def look(self, chain: ChainView, in_flight: Collection[int], pooled: int = 0) -> None:
        """Note which nonces were used since the last look; ``pooled``: the nonce behind what waits in a pool."""
        if self._least is None:
            self._least = self._top = top(chain.nonce, in_flight, 0)
        self._least = max(self._least, pooled)
        used = range(max(self._top, self._least), chain.nonce)
        for nonce in used[: MOST_MOVES - len(self._moves)]:
            self._moves[nonce] = NonceMove(self._seen, chain.number + LATER, chain.at)
        self._top = max(self._top, chain.nonce)
        self._seen = chain.number

    def explained(self, nonce: int) -> None:
        """Note that a nonce was used by a transaction of ours, as its receipt says."""
        self._moves.pop(nonce, None)

    def forget(self) -> None:
        """Forget what waits to be looked for: another process of this node may send by now."""
        self._moves.clear()

    def search(self, chain: ChainView, window: float, nursery: trio.Nursery) -> None:
        """Have the blocks read in which nonces were used that are due; ``window``: seconds that a look must be old."""
        if self._reads or chain.suspicious or chain.at < self._again:
            return
        if nonces := self._due(chain, window):
            self._reads = True
            nursery.start_soon(self._read, nonces, chain)

    def _due(self, chain: ChainView, window: float) -> Sequence[int]:
        """Return nonces to look for now, all in the same blocks."""
        late = [nonce for nonce, move in self._moves.items() if chain.at - move.at > GIVEN_UP]
        for nonce in late:
            del self._moves[nonce]
        due = [
            (move, nonce)
            for nonce, move in self._moves.items()
            if nonce < chain.nonce and chain.at - move.at >= window
        ]
        return [nonce for move, nonce in due if move == due[0][0]]

    async def _read(self, nonces: Sequence[int], chain: ChainView) -> None:
        """Read the blocks in which nonces that are due were used, and tell of each transaction there that is a stranger's.

        What a node does not show is asked for again after a pause. Cancellation: at any time. Repeating: reads only.
        """
        move = self._moves[nonces[0]]
        numbers = range(move.after + 1, min(move.upto, chain.number) + 1)
        try:
            blocks = [] if len(numbers) > MOST_BLOCKS else await self._blocks(numbers)
        except Retryable:
            self._again = chain.at + PAUSE
            return
        finally:
            self._reads = False
        for found in (one for block in blocks for one in self._foreign(block, nonces)):
            self.on_event(found)
        for nonce in nonces:
            self._moves.pop(nonce, None)

    async def _blocks(self, numbers: range) -> list[_Block]:
        """Return blocks with their transactions. Raises Unreachable, Overloaded."""
        blocks = list[_Block]()
        for at in range(0, len(numbers), BLOCKS_AT_ONCE):
            piece = numbers[at : at + BLOCKS_AT_ONCE]
            calls = [Call("eth_getBlockByNumber", (quantity(number), True)) for number in piece]
            try:
                blocks += [read(answer, _Block) for answer in await self.rpc.batch(calls)]
            except ValueError as error:
                raise Unreachable(f"the node does not show a block: {error}") from error
        return blocks

    def _foreign(self, block: _Block, nonces: Collection[int]) -> Iterator[ForeignTransaction]:
        """Yield the transactions of a block that are a stranger's."""
        if int(block.timestamp, 16) < self.began:
            return
        for one in block.transactions:
            if str(one.get("from")).lower() != to_hex(self.account):
                continue
            signed = read_signed(one, self.rpc.chain_id)
            if signed is None or signed.sender != self.account or signed in self.own:
                continue
            nonce = signed.transaction.nonce
            if nonce in nonces:
                yield ForeignTransaction(self.chain, nonce, signed.hash, int(block.number, 16))


def read_signed(sent: Any, chain_id: int) -> SignedTransaction | None:
    """Return a transaction of a block with the account that its signature proves; None for a type that is not supported."""
    try:
        one = read(sent, _Sent)
        kind, v = int(one.type, 16), int(one.v, 16)
        is_legacy = kind == 0
        if kind not in {0, 2} or sent.get("accessList"):
            return None
        priority = None if is_legacy else int(one.max_priority_fee_per_gas, 16)
        fee = int(one.gas_price if is_legacy else one.max_fee_per_gas, 16)
        amounts = int(one.nonce, 16), priority, fee, int(one.gas, 16)
        to, value, data = parse_address(one.to), int(one.value, 16), from_hex(one.input)
        transaction = Transaction(chain_id, *amounts, to, value, data)
        parity = v - 35 - 2 * chain_id if is_legacy else v
        signature = int(one.r, 16).to_bytes(32) + int(one.s, 16).to_bytes(32) + bytes([27 + parity])
        return decode_transaction(transaction.signed(signature))
    except (ValueError, Undecodable):
        return None
