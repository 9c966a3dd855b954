"""How often each bucket was asked and failed, and how many ciphertexts were had. Bounded, whatever buckets a chain names. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

from kmsconn.transport.urls import show_origin

MOST: Final = 64  # buckets with a count of their own; the others share one
OTHERS: Final = "others"


@attrs.define
class BucketCounts:
    """Counts by the origin of a bucket; ``fetched`` are ciphertexts that were had, from whichever."""

    fetched: int = 0
    attempts: Counter[str] = attrs.field(factory=Counter)
    failures: Counter[str] = attrs.field(factory=Counter)

    def tried(self, url: str) -> str:
        """Count an attempt, and return the name under which its failure is counted."""
        origin = show_origin(url)
        name = origin if origin in self.attempts or len(self.attempts) < MOST else OTHERS
        self.attempts[name] += 1
        return name
