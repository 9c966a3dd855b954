"""Looks at the chain: head, nonce, balance, finality, and whether blocks went that replies are in. Asks one node for all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import trio

from kmsconn.errors import StageTimeout
from kmsconn.rpc.heads import HeadTracker
from kmsconn.rpc.port import Call
from kmsconn.txmanager.asking import ask_one_node
from kmsconn.txmanager.questions import (
    FINALIZED,
    LATEST,
    HeadAnswer,
    balance_call,
    block_call,
    nonce_call,
    read_block_hash,
    read_block_number,
    read_head,
    read_wei,
)
from kmsconn.txmanager.state import TxManager
from kmsconn.txmanager.view import NOT_FINAL, ChainView

LOOK_TIMEOUT = 15.0  # seconds; longer than a connection waits, so that a dead one is noticed
DETAILS_EVERY = 2.0  # seconds; balance, finality and checkpoint change slowly


@attrs.define
class ChainObserver:
    """Looks at one chain, and remembers what only later looks can compare."""

    manager: TxManager
    reorganised: bool = False
    """A block that was seen is another one now; for whoever tracks replies to read and to clear."""
    _heads: HeadTracker = attrs.field(factory=HeadTracker)
    _details_at: float = float("-inf")
    _finalized: int | None = None
    _young: int = 0
    """So many of the newest blocks were not final when finality was asked."""
    _balance: int | None = None
    _checkpoint: tuple[int, str] | None = None
    _last: HeadAnswer | None = None
    _reorganised_at: float = attrs.field(factory=trio.current_time)

    async def look(self) -> ChainView:
        """Look at the chain. Raises Unreachable, Overloaded, StageTimeout. Repeating: reads only."""
        now = trio.current_time()
        details = now - self._details_at >= DETAILS_EVERY
        calls = [LATEST, nonce_call(self.manager.wallet.address), *(self._details() if details else ())]
        try:
            with trio.fail_after(LOOK_TIMEOUT):
                block, nonce, *more = await ask_one_node(self.manager.endpoint.rpc, calls)
        except trio.TooSlowError as error:
            raise StageTimeout("a look at the chain", LOOK_TIMEOUT) from error
        head = read_head(block, nonce)
        if details:
            self._details_at = now
            self._take_details(head, block, more)
        self._compare(head)
        return self._view(head)

    def _compare(self, head: HeadAnswer) -> None:
        last, self._last = self._last, head
        if last is not None and (head.number < last.number or head.nonce < last.nonce):
            self._reorganised_at = trio.current_time()

    def _details(self) -> Sequence[Call]:
        checkpoint = () if self._checkpoint is None else (block_call(self._checkpoint[0]),)
        return (balance_call(self.manager.wallet.address), FINALIZED, *checkpoint)

    def _take_details(self, head: HeadAnswer, block: Any, results: Sequence[Any]) -> None:
        balance, finalized, *checkpoint = results
        self._balance = read_wei(balance)
        self._finalized = read_block_number(finalized)
        self._young = 0 if self._finalized is None else max(0, head.number - self._finalized)
        found = read_block_hash(checkpoint[0]) if checkpoint else None
        if found is not None and self._checkpoint is not None and found != self._checkpoint[1]:
            self.reorganised = True
            self._reorganised_at = trio.current_time()
        own = read_block_hash(block)
        self._checkpoint = None if own is None else (head.number, own)

    def _view(self, head: HeadAnswer) -> ChainView:
        tracker, reorg_window = self.manager.endpoint.head, self.manager.settings.reorg_window
        tracker.note(head.number, head.timestamp)
        self._heads.note(head.number, head.timestamp)
        # a burst of before this process would pass for old; nothing is old until as much was seen of the chain
        blocks = (
            max(1, tracker.blocks_in(reorg_window)) if tracker.has_watched(reorg_window) else head.number + 1
        )
        return ChainView(
            number=head.number,
            timestamp=head.timestamp,
            base_fee=head.base_fee,
            gas_limit=head.gas_limit,
            nonce=head.nonce,
            fresh=self._heads.number == head.number,
            reorg_blocks=blocks,
            final=self._final(head),
            balance=self._balance,
            at=trio.current_time(),
            reorganised_at=self._reorganised_at,
        )

    def _final(self, head: HeadAnswer) -> int:
        """Return the newest block that cannot go: the finalized one, or so many below the head where the node knows none.

        The finalized one was asked some looks ago, perhaps on a longer branch that went since. So it falls with the head.
        """
        if self._finalized is not None:
            return max(NOT_FINAL, min(self._finalized, head.number - self._young))
        return max(NOT_FINAL, head.number - self.manager.config.confirmations)
