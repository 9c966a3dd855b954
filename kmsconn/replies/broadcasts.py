"""Remembers the broadcasts of this process, and when each is due again. Pure; a cache: after a restart everything is broadcast anew."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from kmsconn.frozen import frozen
from kmsconn.replies.evidence import THERE, UNHELD, Sent
from kmsconn.transport.waiting import Backoff

AGAIN_AFTER = 5.0  # seconds without a receipt until the same bytes are broadcast again; doubled each time
_DOUBLINGS = 4
REPLACE_AFTER = 30.0  # seconds without a receipt until a higher fee is tried
_BLOCKS_TO_WAIT = 3  # on a slow chain: so many blocks instead
_SENT_TWICE = 2
LONGEST_RETRY = 15.0
REFUSED_BACKOFF = Backoff(0.25, LONGEST_RETRY, least=1.0)
"""Until bytes go out again that a node refused."""


@frozen
class Broadcast:
    """Bytes that were broadcast: their hash, since when, when last, how often, and what the node said last.

    ``on_its_way``: no answer came yet to the last time. A sequencer answers when the block is made.
    """

    hash: bytes
    since: float
    at: float
    times: int = 0
    said: Sent | None = None
    on_its_way: bool = False

    @property
    def is_held(self) -> bool:
        """Whether the node said that it holds something for the nonce."""
        return self.said in THERE

    def is_due(self, now: float, block_time: float) -> bool:
        """Say whether the bytes are to be broadcast now: not taken, or no receipt for long."""
        if self.on_its_way:
            return False
        if not self.is_held and self.said is not Sent.UNANSWERED:
            return now - self.at >= self._pause()
        doublings = 0 if self.said is Sent.USED else min(self.times - 1, _DOUBLINGS)
        return now - self.at >= max(AGAIN_AFTER, _BLOCKS_TO_WAIT * block_time) * 2.0**doublings

    def _pause(self) -> float:
        """Return the seconds until bytes that no node holds go out again. What fails for all has its pace elsewhere."""
        if self.said in {None, Sent.FAILED, Sent.FUNDS}:
            return 0.0
        if self.said is Sent.GAP:
            return REFUSED_BACKOFF.first
        return REFUSED_BACKOFF.seconds(self.times - 1)

    def says_used(self, now: float, block_time: float) -> bool:
        """Say whether the node's word that the nonce is used still counts: a reorganisation may have opened it since."""
        return self.said is Sent.USED and not self.is_due(now, block_time)

    def is_stuck(self, now: float, block_time: float, replace_after: float) -> bool:
        """Say whether the bytes need another fee: the node refuses them for it, or they have no receipt for ``replace_after`` seconds."""
        if self.on_its_way:
            return False
        if self.said in UNHELD:
            return True
        wait = max(replace_after, 2 * _BLOCKS_TO_WAIT * block_time)
        waits = self.said in (THERE | {Sent.UNANSWERED}) - {Sent.USED}
        return waits and self.times >= _SENT_TWICE and now - self.since >= wait


@attrs.define
class Broadcasts:
    """The broadcasts of a chain by whatever holds their nonce. Times are Trio's; ``block_time`` in seconds."""

    _broadcasts: dict[int, Broadcast] = attrs.field(factory=dict)

    def begin(self, holder: int, transaction_hash: bytes, now: float) -> None:
        """Note that bytes are on their way to a node."""
        known = self.of(holder, transaction_hash) or Broadcast(transaction_hash, now, now)
        self._broadcasts[holder] = Broadcast(
            transaction_hash, known.since, now, known.times, known.said, on_its_way=True
        )

    def note(self, holder: int, transaction_hash: bytes, said: Sent, now: float) -> bool:
        """Note what a node said; return whether it is the first time that a node holds something of these bytes."""
        known = self.of(holder, transaction_hash) or Broadcast(transaction_hash, now, now)
        self._broadcasts[holder] = Broadcast(transaction_hash, known.since, now, known.times + 1, said)
        return said in THERE and not known.is_held

    def of(self, holder: int, transaction_hash: bytes | None) -> Broadcast | None:
        """Return the broadcast of these bytes; other bytes of the same holder do not count."""
        broadcast = self._broadcasts.get(holder)
        return broadcast if broadcast is not None and broadcast.hash == transaction_hash else None

    def due(self, holder: int, transaction_hash: bytes | None, now: float, block_time: float) -> bool:
        """Say whether bytes are to be broadcast now, as ``Broadcast.is_due``; what never was is due."""
        broadcast = self.of(holder, transaction_hash)
        return broadcast is None or broadcast.is_due(now, block_time)

    def keep(self, holders: Collection[int]) -> None:
        """Forget all others."""
        self._broadcasts = {holder: one for holder, one in self._broadcasts.items() if holder in holders}
