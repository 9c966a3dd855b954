"""Looks at a chain for an account that sends: head, nonce, balance and finality of one node at once.

Which branch that is, the chain's follower says; which replies it means something for, nobody here knows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import attrs
import trio

from kmsconn.chain.asking import ask_one_node
from kmsconn.chain.follower import UNREAD, Anchor, Follower, HeadTracker
from kmsconn.chain.logs import BlockHead, block_call, read_block, read_found, read_number
from kmsconn.chain.port import Call, JsonBlockHash, PipelinedRpc, read
from kmsconn.errors import KmsconnError, StageTimeout
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex, from_quantity, to_hex

NOT_FINAL = -1


@attrs.frozen
class ChainView:
    """One look at the chain: the latest block and the sender's account, all of one node.

    ``fresh``: no node of this chain has shown a later block. ``reorg_blocks``: how many blocks the reorg window holds. ``final``: the
    newest block that cannot go any more, ``NOT_FINAL`` before one is known. ``balance`` in wei, None where the node does not say.
    ``forked_at``: when a look last found another block than before, or a lower head or nonce, as a node that lags shows it too; at first
    the start, before which everything may have happened. ``suspicious``: this look itself is of another branch, which is not believed.
    """

    number: int
    base_fee: int | None
    gas_limit: int | None
    nonce: int
    fresh: bool
    reorg_blocks: int
    final: int
    balance: int | None
    at: float
    forked_at: float = -math.inf
    suspicious: bool = False
    blocks: Mapping[int, Any] = attrs.field(factory=dict, repr=False)
    """What the node answered for blocks that it was asked for besides, by number."""

    def is_old(self, block: int) -> bool:
        """Say whether a block is older than the reorg window: only then is a final no about its requests believed."""
        return block <= self.number - self.reorg_blocks


LATEST = Call("eth_getBlockByNumber", ("latest", False))
FINALIZED = Call("eth_getBlockByNumber", ("finalized", False))
LOOK_TIMEOUT = 15.0  # seconds; longer than a connection waits, so that a dead one is noticed
POOL_TIMEOUT = 1.0  # seconds; a node that does not answer for its pool holds nobody up
DETAILS_EVERY = 2.0  # seconds; balance and finality change slowly


def is_listed(block_hash: bytes, transaction_hash: bytes, result: Any) -> bool:
    """Say whether what a node answered is the block with this hash, and lists a transaction."""
    try:
        block = read(result, JsonBlockHash)
        return from_hex(block.hash) == block_hash and to_hex(transaction_hash) in block.transactions
    except ValueError:
        return False


@cache
def nonce_call(sender: Address, block: str = "latest") -> Call:
    """Return the question for the sender's nonce at a block; at ``pending`` what waits in the node's pool counts, too."""
    return Call("eth_getTransactionCount", (to_hex(sender), block))


@attrs.define
class ChainObserver:
    """Looks at one chain, and remembers what only later looks can compare.

    Where the node has no ``finalized`` block, one with ``confirmations`` blocks upon it counts as final.
    """

    rpc: PipelinedRpc
    follower: Follower
    account: Address
    confirmations: int
    _heads: HeadTracker = attrs.field(factory=HeadTracker)
    _details_at: float = float("-inf")
    _finalized: int | None = None
    _young: int = 0
    """So many of the newest blocks were not final when finality was asked."""
    _balance: int | None = None
    _suspicious: bool = False
    _last: tuple[int, int, int] = (-1, -1, UNREAD)
    """The head's number, the nonce and the chain's generation of the look before."""
    _forked_at: float = attrs.field(factory=trio.current_time)

    async def look(self, final: Sequence[int] = ()) -> ChainView:
        """Look at the chain, now and then with blocks that are said to be final. Raises Unreachable, Overloaded, StageTimeout.

        Repeating: reads only.
        """
        now, follower = trio.current_time(), self.follower
        details = now - self._details_at >= DETAILS_EVERY
        count_call = nonce_call(self.account)
        anchor = follower.anchor()
        if details and (anchor.block is None or anchor.block.number < self._last[0]):
            await follower.load()  # no reader of this process feeds it
            anchor = follower.anchor()
        calls = [LATEST, count_call, *anchor.calls]
        if details:
            calls += [Call("eth_getBalance", count_call.params), FINALIZED, *map(block_call, final)]
        try:
            with trio.fail_after(LOOK_TIMEOUT):
                block, count, *more = await ask_one_node(self.rpc, calls)
                head, nonce = read_block(block), read_number(count, count_call.method)
                found = None if anchor.block is None else read_found(more.pop(0))
                await self._compare(head, nonce, anchor, None if found is None else found.hash)
        except trio.TooSlowError as error:
            raise StageTimeout("a look at the chain", LOOK_TIMEOUT) from error
        blocks = dict(zip(final, more[2:], strict=True)) if details else {}
        if details:
            self._details_at = now
            self._take_details(head, *more[:2])
        return self._view(head, nonce, blocks)

    async def pooled(self) -> int:
        """Return the account's nonce behind what waits in the node's pool; 0 where it does not tell. Repeating: reads only."""
        call = nonce_call(self.account, "pending")
        with trio.move_on_after(POOL_TIMEOUT), suppress(KmsconnError):
            return read_number(await self.rpc.call(call.method, *call.params))
        return 0

    async def _compare(self, head: BlockHead, nonce: int, anchor: Anchor, found: bytes | None) -> None:
        """Take a head, and compare a look with those before: another branch or generation, or a lower head or nonce, is another epoch."""
        follower, last = self.follower, self._last
        lags = anchor.block is not None and found is None
        self._suspicious = not (lags or await follower.judge(anchor, found))
        follower.head.note(head.number, head.timestamp)
        self._last = head.number, nonce, follower.generation
        if self._suspicious or head.number < last[0] or nonce < last[1] or follower.generation != last[2]:
            self._forked_at = trio.current_time()

    def _take_details(self, head: BlockHead, balance: Any, finalized: Any) -> None:
        try:
            self._balance = from_quantity(balance)
        except (TypeError, ValueError):
            self._balance = None
        found = read_found(finalized)
        self._finalized = None if found is None else found.number
        self._young = 0 if found is None else max(0, head.number - found.number)

    def _view(self, head: BlockHead, nonce: int, blocks: Mapping[int, Any]) -> ChainView:
        tracker, window = self.follower.head, self.follower.reorg_window
        self._heads.note(head.number, head.timestamp)
        # a burst of before this process would pass for old; nothing is old until as much was seen of the chain
        reorg_blocks = tracker.blocks_in(window) if tracker.has_watched(window) else head.number + 1
        # the finalized one was asked some looks ago, perhaps on a longer branch that went since: so it falls with the head
        final = head.number - (self.confirmations if self._finalized is None else self._young)
        if self._finalized is not None:
            # One node says which block is final: none is believed to be that is younger than the reorg window.
            final = min(self._finalized, final, head.number - reorg_blocks)
        return ChainView(
            number=head.number,
            base_fee=head.base_fee,
            gas_limit=head.gas_limit,
            nonce=nonce,
            fresh=self._heads.number == head.number,
            reorg_blocks=reorg_blocks,
            final=max(NOT_FINAL, final),
            balance=self._balance,
            at=trio.current_time(),
            forked_at=self._forked_at,
            suspicious=self._suspicious,
            blocks=blocks,
        )
