"""One look at the chain, as the transaction manager judges it."""

from __future__ import annotations

import math
from collections.abc import Collection

import attrs

from kmsconn.journal.values import Row
from kmsconn.model.debounce import Debounce

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
    timestamp: int
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

    @property
    def settled(self) -> int:
        """The newest block that is older than the reorg window."""
        return self.number - self.reorg_blocks

    def is_old(self, row: Row) -> bool:
        """Say whether a row's request is older than the reorg window: only then is a final no believed."""
        return row.event.log.block_number <= self.settled


# --- the account's nonces


def top(chain_nonce: int, in_flight: Collection[int], high: int) -> int:
    """Return the lowest nonce above everything known."""
    return max(chain_nonce, high, max(in_flight, default=-1) + 1)


def gaps(chain_nonce: int, in_flight: Collection[int], high: int, window: int) -> tuple[int, ...]:
    """Return the nonces below ``top`` that nobody holds, lowest first; only the next ``window`` nonces are looked at.

    No more are in flight at once, and the rest waits behind these: so one wild answer about the nonce costs no endless list.
    """
    end = min(top(chain_nonce, in_flight, high), chain_nonce + window)
    return tuple(nonce for nonce in range(chain_nonce, end) if nonce not in in_flight)


@attrs.frozen
class AccountNonces:
    """The account's nonces as a decision sees them.

    ``in_flight`` are those that signed replies hold; no nonce below ``high`` is free, since it was seen used. ``stranger_at`` is when
    another transaction of the account was seen last, which may have been any reply. ``missing`` are nonces that nobody holds below one
    that somebody does, ``gaps`` the same of a fresh look, ``ripe`` those of them that a later look confirmed. ``whole_since``: since when
    each look has had every transaction of the account that was seen, or been the newest one; inf while one has not. ``first_block``: that
    of the first look; what was asked up to there, a process before this one may have answered.
    """

    in_flight: frozenset[int]
    high: int
    stranger_at: float
    missing: Collection[int]
    gaps: Collection[int]
    ripe: Collection[int]
    whole_since: float
    first_block: int | None


@attrs.define
class NonceTracker:
    """Follows the account's nonces over the looks at the chain; ``AccountNonces`` says what each one means."""

    debounce: Debounce
    high: int = 0
    stranger_at: float = -math.inf
    ripe: frozenset[int] = frozenset()
    whole_since: float = math.inf
    first_block: int | None = None

    def look(self, chain: ChainView, in_flight: Collection[int], window: int) -> None:
        """Compare a look at the chain with the nonces in flight."""
        if chain.nonce > top(0, in_flight, self.high):
            self.stranger_at = chain.at
        self.high = max(self.high, chain.nonce)
        self.first_block = chain.number if self.first_block is None else self.first_block
        is_whole = chain.fresh or chain.nonce == self.high
        self.whole_since = min(self.whole_since, chain.at) if is_whole else math.inf
        found = gaps(chain.nonce, in_flight, self.high, window)
        self.debounce.keep(found)
        self.ripe = frozenset(gap for gap in found if self.debounce.confirms(gap, chain.at, chain.number))

    def snapshot(self, chain: ChainView, in_flight: frozenset[int], window: int) -> AccountNonces:
        """Return the nonces on which the next decision rests."""
        missing = gaps(chain.nonce, in_flight, self.high, window)
        open_gaps = missing if chain.fresh else ()
        return AccountNonces(
            in_flight,
            self.high,
            self.stranger_at,
            missing,
            open_gaps,
            self.ripe.intersection(open_gaps),
            self.whole_since,
            self.first_block,
        )
