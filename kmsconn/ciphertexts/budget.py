"""The bytes of ciphertexts that all requests hold together, within a budget; a cap on the silence of a body on its way (4.3)."""

from __future__ import annotations

import math
from collections import Counter
from typing import Self

import attrs
import trio

from kmsconn.transport.urls import show_origin

SILENCE = 10.0  # seconds without a byte after which a bucket counts as hung
SLOWEST = 64 * 1024
"""Bytes a second on average; a body that drips holds its bytes of the budget for ``SILENCE``, not until the deadline."""
LARGE = 64 * 1024  # bytes; a body that is larger has one of its bucket's ``LARGE_BODIES`` places
LARGE_BODIES = 8  # more of them that grow at once leave holes in the heap, as large as the budget


@attrs.define(eq=False)
class ByteBudget:
    """At most ``total`` bytes are reserved at once, save that one attempt of the eldest lease that holds something never waits.

    Shared by all requests; each reserves before it reads and gives back when the Core has them. Bodies without a length are counted as
    they arrive, so that several requests may each hold a part and want more: the eldest goes on, ends, and makes room for the others. It
    alone exceeds the total, by one body after the other: buckets without an end would have as many of them as a request has ciphertexts
    and ways to them.

    The ``Allowance`` of ``transport/grpc`` stays apart: it belongs to a library that imports nothing of ours, does no I/O, and knows the
    size of each reply beforehand.
    """

    total: int
    used: int = 0
    holders: dict[Lease, None] = attrs.field(factory=dict, repr=False)
    """Those who hold something, the eldest first."""
    beyond: Attempt | None = attrs.field(default=None, repr=False)
    """Who has gone beyond the total."""
    large: Counter[str] = attrs.field(factory=Counter, repr=False)
    """The attempts that hold more than ``LARGE``, by bucket."""
    freed: trio.Event = attrs.field(factory=trio.Event, repr=False)

    def tell(self) -> None:
        """Let those who wait look again."""
        self.freed.set()
        self.freed = trio.Event()


@attrs.define(eq=False)
class Lease:
    """What one request holds of the budget, nothing at first; everything is given back when the block is left."""

    budget: ByteBudget
    held: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.held:
            self.give_back(self.held)

    def give_back(self, amount: int) -> None:
        """Give a part back, and let those who wait look again."""
        budget, self.held = self.budget, self.held - amount
        budget.used -= amount
        if not self.held:
            budget.holders.pop(self, None)
        budget.tell()


@attrs.define(eq=False)
class Attempt:
    """What one try to fetch something reserves: a bucket that fails, or loses a race, holds nothing afterwards.

    A context manager, too: what is not kept is given back. ``silence`` is cancelled once a body that began at a time counts as hung; None:
    nobody watches it.
    """

    lease: Lease
    silence: trio.CancelScope | None = None
    bucket: str = attrs.field(default="", repr=False)
    """The address that is asked."""
    held: int = 0
    wanted: int = 0
    """The bytes that did not fit, with those that are held."""
    begun: float = math.inf
    is_large: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        is_beyond = self.lease.budget.beyond is self
        if is_beyond:
            self.lease.budget.beyond = None
        if self.is_large:
            self.lease.budget.large -= Counter([show_origin(self.bucket)])
            self.lease.budget.tell()
        if self.held or is_beyond:
            self.lease.give_back(self.held)
            self.held = 0

    def watch(self, received: int = 0) -> None:
        """Note when a body that has come so far counts as hung: by silence, or by its pace."""
        if self.silence is not None:
            slow = self.begun + SILENCE + received / SLOWEST
            self.silence.deadline = min(trio.current_time() + SILENCE, slow)

    async def reserve(self, amount: int) -> None:
        """Wait until ``amount`` bytes fit, and hold them: before a bucket is asked, since the eldest might find no connection else.

        Cancellation: holds nothing more than before.
        """
        while not self._hold(amount):
            await self.lease.budget.freed.wait()

    async def grow(self, amount: int) -> bool:
        """Hold ``amount`` more bytes of a body that is on its way; False where they do not fit. Cancellation: as ``reserve``."""
        if not self.is_large and self.held + amount > LARGE:
            await self._become_large(amount)
        if not self._hold(amount):
            self.wanted = self.held + amount
            return False
        return True

    async def _become_large(self, amount: int) -> None:
        """Wait until a large body has a place, while its bytes fit; that is no silence of the bucket."""
        budget, bucket = self.lease.budget, show_origin(self.bucket)
        while budget.large[bucket] >= LARGE_BODIES and not self._is_exempt:
            if amount and budget.used + amount > budget.total:
                return  # who waits for bytes has no connection
            began = trio.current_time()
            if self.silence is not None:
                self.silence.deadline = math.inf
            await budget.freed.wait()
            self.begun += trio.current_time() - began
        self.is_large = True
        budget.large[bucket] += 1

    @property
    def _is_exempt(self) -> bool:
        budget = self.lease.budget
        return next(iter(budget.holders), self.lease) is self.lease and budget.beyond in {None, self}

    def _hold(self, amount: int) -> bool:
        """Hold so many more bytes if they fit."""
        lease, budget = self.lease, self.lease.budget
        if amount:
            used = budget.used + amount
            if used > budget.total:
                if not self._is_exempt:
                    return False
                budget.beyond = self
            budget.used = used
            budget.holders[lease] = None
            lease.held += amount
            self.held += amount
        return True
