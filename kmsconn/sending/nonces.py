"""Which nonces to use next. Pure; never signs, sends or waits.

A nonce is *flying* while a journaled reply holds it. The next one is the lowest that is not below the chain's and not flying. Nonces
that were seen used (``high``) and are not on the chain any more are *holes*, like those between flying ones: either the answering
node lags, or a block is gone. So a hole is filled only when a later look still finds it.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from itertools import count

import attrs


@attrs.define
class SecondLook:
    """Believes what one look says only when a later one still says it: after the head advanced, or ``patience`` seconds later.

    Behind one URL may stand many nodes; a chain without traffic makes no blocks, hence the seconds.
    """

    patience: float
    _first: dict[Hashable, tuple[int, float]] = attrs.field(factory=dict)

    def confirms(self, doubt: Hashable, head: int, now: float) -> bool:
        """Note a doubt; say whether an earlier look had it already."""
        first_head, first_at = self._first.setdefault(doubt, (head, now))
        return head > first_head or now - first_at >= self.patience

    def keep(self, doubts: Collection[Hashable]) -> None:
        """Forget all others: they were cleared, and begin anew if they come back."""
        self._first = {doubt: seen for doubt, seen in self._first.items() if doubt in doubts}


def top(chain_nonce: int, flying: Collection[int], high: int) -> int:
    """Return the lowest nonce above everything known."""
    return max(chain_nonce, high, max(flying, default=-1) + 1)


def holes(chain_nonce: int, flying: Collection[int], high: int, window: int) -> tuple[int, ...]:
    """Return the nonces below ``top`` that nobody holds, lowest first; only the next ``window`` nonces are looked at.

    No more fly at once, and the rest waits behind these: so one wild answer about the nonce costs no endless list.
    """
    end = min(top(chain_nonce, flying, high), chain_nonce + window)
    return tuple(nonce for nonce in range(chain_nonce, end) if nonce not in flying)


@attrs.frozen
class Plan:
    """A nonce for each new reply, in their order; and the holes that keep something flying from landing and nothing new fills."""

    nonces: tuple[int, ...]
    unfilled: tuple[int, ...]


def plan(
    chain_nonce: int,
    flying: Collection[int],
    high: int,
    ripe: Collection[int],
    kept: Sequence[int | None],
) -> Plan:
    """Give a nonce to each new reply, oldest first; ``kept`` holds for each the nonce of its earlier bytes, if any.

    Earlier bytes may still be included while their nonce is not below the chain's: such a reply takes the same nonce again, so that
    it never lands twice. ``ripe`` are the holes that may be filled.
    """
    taken = set(flying)
    again = [_again(chain_nonce, nonce, taken) for nonce in kept]
    open_holes = [nonce for nonce in sorted(ripe) if nonce not in taken]
    fresh = iter([*open_holes[: again.count(None)]])
    beyond = (nonce for nonce in count(top(chain_nonce, taken, high)) if nonce not in taken)
    nonces = tuple(next(fresh, None) if nonce is None else nonce for nonce in again)
    filled = tuple(next(beyond) if nonce is None else nonce for nonce in nonces)
    last = max((*flying, *filled), default=-1)
    return Plan(filled, tuple(n for n in open_holes if n not in filled and n < last))


def _again(chain_nonce: int, nonce: int | None, taken: set[int]) -> int | None:
    if nonce is None or nonce < chain_nonce or nonce in taken:
        return None
    taken.add(nonce)
    return nonce
