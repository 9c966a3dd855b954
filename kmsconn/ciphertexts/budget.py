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
    """At most ``total`` bytes are reserved at once, save that the eldest of those who hold something never waits.

    Bodies without a length are counted as they arrive, so that several requests may each hold a part and want more: the eldest
    goes on, ends, and makes room for the others. It alone may exceed the total, by what one request may have.
    """

    total: int
    used: int = 0
    _holders: dict[Lease, None] = attrs.field(factory=dict, repr=False)  # the eldest first
    _freed: trio.Event = attrs.field(factory=trio.Event, repr=False)

    def lease(self) -> Lease:
        """Return an empty lease; use it as a context manager."""
        return Lease(self)

    def fits(self, amount: int, lease: Lease) -> bool:
        """Say whether ``amount`` more could be had at once."""
        return self.used + amount <= self.total or next(iter(self._holders), lease) is lease

    async def take(self, amount: int, lease: Lease) -> None:
        """Wait until ``amount`` more fits, unless ``lease`` is the eldest of those who hold something."""
        while not self.fits(amount, lease):
            await self._freed.wait()
        self.used += amount
        if amount:
            self._holders[lease] = None

    def give(self, amount: int, lease: Lease) -> None:
        """Give back what was taken."""
        self.used -= amount
        if lease.held == amount:
            self._holders.pop(lease, None)
        self._freed.set()
        self._freed = trio.Event()


@attrs.define(eq=False)
class Lease:
    """What one request holds of the budget; everything is given back when the block is left."""

    _budget: ByteBudget
    held: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.held:
            self.give_back(self.held)

    def fits(self, amount: int) -> bool:
        """Say whether ``reserve`` would not wait."""
        return self._budget.fits(amount, self)

    async def reserve(self, amount: int) -> None:
        """Wait until ``amount`` more bytes fit, and hold them. Cancellation: holds nothing more than before."""
        await self._budget.take(amount, self)
        self.held += amount

    def give_back(self, amount: int) -> None:
        """Give a part back."""
        self._budget.give(amount, self)
        self.held -= amount

    def attempt(self) -> Attempt:
        """Return a part that is given back again unless it is kept; use it as a context manager."""
        return Attempt(self)


@attrs.define
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

    def fits(self, amount: int) -> bool:
        """Say whether ``reserve`` would not wait."""
        return self._lease.fits(amount)

    async def reserve(self, amount: int) -> None:
        """Wait until ``amount`` more bytes fit, and hold them. Cancellation: holds nothing more than before."""
        await self._lease.reserve(amount)
        self.held += amount

    def keep(self) -> None:
        """Leave what was reserved to the lease."""
        self.held = 0
