"""The lives of one emulated process: who waits in it loses the connection when it restarts. Knows no call."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from kmsconn.emulator.grpc_server import CutConnection


@attrs.define(eq=False)
class Uptime:
    """Wakes those who wait when the process restarts, or when what they wait for may have changed."""

    restarts: int = attrs.field(default=0, init=False)
    _stirred: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)

    def restart(self) -> None:
        """End this life and begin the next."""
        self.restarts += 1
        self.stir()

    def stir(self) -> None:
        """Let those who wait look again at their moment."""
        stirred, self._stirred = self._stirred, trio.Event()
        stirred.set()

    async def wait(self, moment: Callable[[], float]) -> None:
        """Wait until a moment, which may move. Raises CutConnection when the process restarts meanwhile. Cancellation: harmless."""
        life = self.restarts
        while True:
            with trio.move_on_at(moment()):
                await self._stirred.wait()
            if self.restarts != life:
                raise CutConnection
            if trio.current_time() >= moment():
                return
