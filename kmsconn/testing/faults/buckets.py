"""What a bucket does wrong, by name."""

from __future__ import annotations

import attrs
import trio

from kmsconn.emulator import bucket_faults
from kmsconn.testing.world import World

BUCKET_FAULTS = {
    fault.name: fault
    for fault in (
        bucket_faults.FORBIDDEN,
        bucket_faults.MISSING,
        bucket_faults.INTERNAL,
        bucket_faults.SLOW_DOWN,
        bucket_faults.WRONG_BYTES,
        bucket_faults.SHORTER,
        bucket_faults.LONGER,
        bucket_faults.EMPTY,
        bucket_faults.TRUNCATED,
        bucket_faults.HANG_UP,
        bucket_faults.stall(10),
        bucket_faults.oversized(1 << 30),
    )
}


@attrs.frozen
class BucketTrouble:
    """A bucket answers its next ``times`` requests wrongly."""

    at: float
    fault: str
    times: int = 1
    bucket: int = 0

    async def play(self, world: World) -> None:
        """Script it."""
        await trio.lowlevel.checkpoint()
        buckets = world.dependencies.buckets
        buckets[self.bucket % len(buckets)].script(*[BUCKET_FAULTS[self.fault]] * self.times)
