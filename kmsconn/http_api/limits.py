"""What all clients of the HTTP API together may hold: waiting places, and bytes of bodies that are not read to their end. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs

from kmsconn.http_api.failures import FailureCode, HttpFailure

BODY_BYTES: Final = 64 << 20
"""Of all bodies that are being read: sixty-four of the largest by default, some ten thousand of the usual size."""


@attrs.define(eq=False)
class WaitingPlaces:
    """The places of clients that wait for an answer; who finds none is told to come back."""

    limit: int
    taken: int = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place while the block lasts. Raises HttpFailure where all are taken."""
        if self.taken >= self.limit:
            raise HttpFailure(FailureCode.OVERLOADED, f"{self.limit} requests wait for their answers already")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


@attrs.define(eq=False)
class BodyBudget:
    """The bytes of bodies in memory; a body that does not fit any more is refused, since its client can come back."""

    limit: int = BODY_BYTES
    used: int = 0

    @contextmanager
    def lease(self) -> Iterator[BodyLease]:
        """Count the bytes of one body while the block lasts."""
        lease = BodyLease(self)
        try:
            yield lease
        finally:
            self.used -= lease.held


@attrs.define(eq=False)
class BodyLease:
    """The bytes of one body."""

    budget: BodyBudget
    held: int = 0

    def grow(self, size: int) -> None:
        """Count further bytes. Raises HttpFailure where they do not fit."""
        if self.budget.used + size > self.budget.limit:
            raise HttpFailure(FailureCode.OVERLOADED, "too many bodies are being received")
        self.held += size
        self.budget.used += size
