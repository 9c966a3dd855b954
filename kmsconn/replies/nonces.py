"""Chooses the nonces to use next. Pure; never signs, sends or waits.

A nonce is *in flight* while a journaled reply holds it. The next one is the lowest that is not below the chain's and not in flight.
Nonces that were seen used (``high``) and are not on the chain any more are *gaps*, like those between nonces in flight: either the
answering node lags, or a block is gone. So a gap is filled only when a later look still finds it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import count

import attrs

from kmsconn.model.debounce import Debounce
from kmsconn.replies.chain_view import ChainView
from kmsconn.replies.view import AccountNonces


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
class NoncePlan:
    """A nonce for each new reply, in their order; and the gaps that hold up something in flight and nothing new fills."""

    nonces: tuple[int, ...]
    unfilled: tuple[int, ...]


def plan(
    chain_nonce: int,
    in_flight: Collection[int],
    high: int,
    ripe: Collection[int],
    reusable: Sequence[int | None],
) -> NoncePlan:
    """Give a nonce to each new reply, oldest first; ``reusable`` holds for each the nonce of its earlier bytes, if any.

    Earlier bytes may still be included while their nonce is not below the chain's: such a reply takes the same nonce again, so that
    it is never included twice. ``ripe`` are the gaps that may be filled.
    """
    taken = set(in_flight)
    again = [_again(chain_nonce, nonce, taken) for nonce in reusable]
    open_gaps = [nonce for nonce in sorted(ripe) if nonce not in taken]
    fresh = iter([*open_gaps[: again.count(None)]])
    beyond = (nonce for nonce in count(top(chain_nonce, taken, high)) if nonce not in taken)
    nonces = tuple(next(fresh, None) if nonce is None else nonce for nonce in again)
    filled = tuple(next(beyond) if nonce is None else nonce for nonce in nonces)
    last = max((*in_flight, *filled), default=-1)
    return NoncePlan(filled, tuple(n for n in open_gaps if n not in filled and n < last))


def _again(chain_nonce: int, nonce: int | None, taken: set[int]) -> int | None:
    if nonce is None or nonce < chain_nonce or nonce in taken:
        return None
    taken.add(nonce)
    return nonce


@attrs.define
class NonceTracker:
    """Follows the account's nonces over the looks at the chain; ``AccountNonces`` says what each one means."""

    debounce: Debounce
    high: int = 0
    stranger_block: int = 0
    ripe: frozenset[int] = frozenset()

    def look(self, chain: ChainView, in_flight: Collection[int], window: int) -> None:
        """Compare a look at the chain with the nonces in flight."""
        if chain.nonce > top(0, in_flight, self.high):
            self.stranger_block = chain.number
        self.high = max(self.high, chain.nonce)
        found = gaps(chain.nonce, in_flight, self.high, window)
        self.debounce.keep(found)
        self.ripe = frozenset(gap for gap in found if self.debounce.confirms(gap, chain.at, chain.number))

    def snapshot(self, chain: ChainView, in_flight: frozenset[int], window: int) -> AccountNonces:
        """Return the nonces on which the next decision rests."""
        missing = gaps(chain.nonce, in_flight, self.high, window)
        open_gaps = missing if chain.fresh else ()
        return AccountNonces(
            in_flight, self.high, self.stranger_block, missing, open_gaps, self.ripe.intersection(open_gaps)
        )
