"""What was handed to a node in this process, and what is due again. Pure; a cache: after a restart everything is handed over anew."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from kmsconn.sending.outcomes import THERE, Sent

AGAIN = 5.0  # seconds without a receipt until the same bytes are sent again; doubled each time
_DOUBLINGS = 4
REPLACE = 30.0  # seconds without a receipt until a higher fee is tried
_BLOCKS_TO_WAIT = 3  # on a slow chain: so many blocks instead
_SENT_TWICE = 2


@attrs.frozen
class Flight:
    """Bytes that were handed over: their hash, since when, when last, how often, and what the node said last."""

    hash: bytes
    since: float
    at: float
    times: int
    said: Sent


@attrs.define
class Flights:
    """The flights of a lane by whatever holds their nonce. Times are Trio's; ``block_time`` in seconds."""

    _flights: dict[int, Flight] = attrs.field(factory=dict)

    def note(self, holder: int, transaction_hash: bytes, said: Sent, now: float) -> bool:
        """Note that bytes were handed over; return whether it is the first time that a node holds something of them."""
        known = self.of(holder, transaction_hash)
        since, times, was_there = (
            (known.since, known.times, known.said in THERE) if known else (now, 0, False)
        )
        self._flights[holder] = Flight(transaction_hash, since, now, times + 1, said)
        return said in THERE and not was_there

    def of(self, holder: int, transaction_hash: bytes | None) -> Flight | None:
        """Return the flight of these bytes; other bytes of the same holder do not count."""
        flight = self._flights.get(holder)
        return flight if flight is not None and flight.hash == transaction_hash else None

    def due(self, holder: int, transaction_hash: bytes | None, now: float, block_time: float) -> bool:
        """Say whether bytes are to be handed over now: never done, not taken, or no receipt for long."""
        flight = self.of(holder, transaction_hash)
        if flight is None or flight.said not in THERE:
            return True
        wait = max(AGAIN, _BLOCKS_TO_WAIT * block_time) * 2.0 ** min(flight.times - 1, _DOUBLINGS)
        return now - flight.at >= wait

    def stuck(
        self,
        holder: int,
        transaction_hash: bytes | None,
        now: float,
        block_time: float,
        *,
        patience: float = REPLACE,
    ) -> bool:
        """Say whether bytes need a higher fee: too low for the node, or sent again and without a receipt for ``patience`` seconds."""
        flight = self.of(holder, transaction_hash)
        if flight is None:
            return False
        if flight.said is Sent.UNDERPRICED:
            return True
        wait = max(patience, 2 * _BLOCKS_TO_WAIT * block_time)
        return (
            flight.said in THERE - {Sent.USED} and flight.times >= _SENT_TWICE and now - flight.since >= wait
        )

    def said(self, holder: int, transaction_hash: bytes | None) -> Sent | None:
        """Return what the node said last about these bytes; None when they were not handed over in this process."""
        flight = self.of(holder, transaction_hash)
        return None if flight is None else flight.said

    def keep(self, holders: Collection[int]) -> None:
        """Forget all others."""
        self._flights = {holder: flight for holder, flight in self._flights.items() if holder in holders}
