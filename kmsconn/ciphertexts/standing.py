"""Which buckets gave nothing of late: they are asked behind the others. Told the time, never any I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from kmsconn.ciphertexts.sources import CandidateBucket
from kmsconn.transport.urls import show_origin

AGAIN: Final = 5.0
"""Seconds after which one request asks such a bucket in its turn again: the price of an outage is one late ciphertext in that time."""
MOST: Final = 1_000
"""Buckets that are remembered; a registry names up to as many."""


@attrs.define
class BucketStanding:
    """When each bucket that gave nothing is asked in its turn again, by its origin.

    In its turn a silent bucket would cost each request the time until the next one is asked too, and one that refuses a connection in vain.
    """

    _again: dict[str, float] = attrs.field(factory=dict)

    def in_turn(self, buckets: Sequence[CandidateBucket], now: float) -> Sequence[CandidateBucket]:
        """Return the buckets in the order of asking. Where the time of one has come, it has its turn once: for this caller."""
        if not self._again:
            return buckets
        behind = [bucket for bucket in buckets if self._is_behind(show_origin(bucket.address), now)]
        return [*(bucket for bucket in buckets if bucket not in behind), *behind]

    def _is_behind(self, origin: str, now: float) -> bool:
        again = self._again.get(origin)
        if again is None or now < again:
            return again is not None
        self._again[origin] = now + AGAIN
        return False

    def gave(self, address: str) -> None:
        """Note that a bucket gave an object."""
        if self._again:
            self._again.pop(show_origin(address), None)

    def gave_nothing(self, address: str, now: float) -> None:
        """Note that a bucket gave no answer, or none that was of use."""
        if len(self._again) < MOST:
            self._again[show_origin(address)] = now + AGAIN
