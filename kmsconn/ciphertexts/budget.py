"""A budget of bytes in memory, shared by all requests; each reserves before it reads and gives back when the Core has them.

The ``Allowance`` of ``transport/grpc`` stays apart: it belongs to a library that imports nothing of ours, does no I/O, and knows the size
of each reply beforehand, while bodies here are counted as they arrive.
"""

from __future__ import annotations

from typing import Self

import attrs
import trio


@attrs.define(eq=False)
class ByteBudget:
    """At most ``total`` bytes are reserved at once, save that one attempt of the eldest lease that holds something never waits.

    Bodies without a length are counted as they arrive, so that several requests may each hold a part and want more: the eldest
    goes on, ends, and makes room for the others. It alone exceeds the total, by one body after the other: buckets without an end would
    have as many of them as a request has ciphertexts and ways to them.
    """

    total: int
    used: int = 0
    _holders: dict[Lease, None] = attrs.field(factory=dict, repr=False)  # the eldest first
    _beyond: Attempt | None = attrs.field(default=None, repr=False)
    _freed: trio.Event = attrs.field(factory=trio.Event, repr=False)

    def lease(self) -> Lease:
        """Return an empty lease; use it as a context manager."""
        return Lease(self)

    def fits(self, amount: int, lease: Lease, attempt: Attempt) -> bool:
        """Say whether ``amount`` more could be had at once."""
        if self.used + amount <= self.total:
            return True
        return next(iter(self._holders), lease) is lease and self._beyond in {None, attempt}

    async def take(self, amount: int, lease: Lease, attempt: Attempt) -> None:
        """Wait until ``amount`` more fits, and hold it."""
        while not self.fits(amount, lease, attempt):
            await self._freed.wait()
        self.used += amount
        if self.used > self.total:
            self._beyond = attempt
        if amount:
            self._holders[lease] = None

    def give(self, amount: int, lease: Lease) -> None:
        """Give back what was taken."""
        self.used -= amount
        if lease.held == amount:
            self._holders.pop(lease, None)
        self._wake()

    def end(self, attempt: Attempt) -> None:
        """Let another attempt go beyond the total."""
        if self._beyond is attempt:
            self._beyond = None
            self._wake()

    def _wake(self) -> None:
        self._freed.set()
        self._freed = trio.Event()


@attrs.define(eq=False)
class Lease:
    """What one request holds of the budget; everything is given back when the block is left."""

    budget: ByteBudget
    held: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.held:
            self.give_back(self.held)

    def give_back(self, amount: int) -> None:
        """Give a part back."""
        self.budget.give(amount, self)
        self.held -= amount

    def attempt(self) -> Attempt:
        """Return a part that is given back again unless it is kept; use it as a context manager."""
        return Attempt(self)


@attrs.define(eq=False)
class Attempt:
    """What one try to fetch something reserves: a bucket that fails, or loses a race, holds nothing afterwards."""

    _lease: Lease
    held: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.held:
            self._lease.give_back(self.held)
            self.held = 0
        self._lease.budget.end(self)

    def fits(self, amount: int) -> bool:
        """Say whether ``reserve`` would not wait."""
        return self._lease.budget.fits(amount, self._lease, self)

    async def reserve(self, amount: int) -> None:
        """Wait until ``amount`` more bytes fit, and hold them. Cancellation: holds nothing more than before."""
        await self._lease.budget.take(amount, self._lease, self)
        self._lease.held += amount
        self.held += amount

    def keep(self) -> None:
        """Leave what was reserved to the lease."""
        self.held = 0
