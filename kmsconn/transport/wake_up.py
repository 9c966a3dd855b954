"""A wake-up with one slot: many notifications, one wake. Carries no work and never blocks the notifier."""

from __future__ import annotations

import trio


class WakeUp:
    """Notified by any number of tasks, waited for by one."""

    def __init__(self) -> None:
        self._notified = trio.Event()

    def notify(self, _push: object = None) -> None:
        """Wake the reader, now or at its next wait; what was pushed does not matter."""
        self._notified.set()

    async def wait(self) -> None:
        """Return once it was notified since the last wait.

        Cancellation: a notification is not lost.
        """
        await self._notified.wait()
        self._notified = trio.Event()
