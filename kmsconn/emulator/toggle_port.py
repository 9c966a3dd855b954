"""A TCP port of this machine that may be shut and opened again while its dependency lives on. Never what is spoken."""

from __future__ import annotations

from functools import partial
from typing import Never

import attrs
import trio

from kmsconn.emulator.network import Handler, serve_sockets


@attrs.define(eq=False)
class TogglePort:
    """The way to one dependency. ``port`` 0 becomes the first free one and is kept from then on."""

    handler: Handler
    crashes: list[Exception] = attrs.field(factory=list)
    """What handlers raised; each ended only its own connection."""
    port: int = 0
    is_open: bool = attrs.field(default=True, init=False)
    _turned: trio.Event = attrs.field(factory=trio.Event, init=False)

    def shut(self) -> None:
        """Cut every connection and refuse new ones, as when a process ends. Repeating: no effect."""
        self._turn(to_open=False)

    def open(self) -> None:
        """Take connections again, on the same port. Repeating: no effect."""
        self._turn(to_open=True)

    async def serve(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> Never:
        """Serve until cancelled; starts with the port. Raises OSError when somebody else took the port meanwhile."""
        async with trio.open_nursery() as nursery:
            listening: trio.CancelScope = await nursery.start(self._listen)
            task_status.started(self.port)
            while True:
                await self._wait(to_open=False)
                listening.cancel()
                await self._wait(to_open=True)
                listening = await nursery.start(self._listen)

    async def _listen(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(serve_sockets, self.handler, port=self.port, crashes=self.crashes)
            self.port = await nursery.start(serve)
            task_status.started(nursery.cancel_scope)

    def _turn(self, *, to_open: bool) -> None:
        self.is_open = to_open
        turned, self._turned = self._turned, trio.Event()
        turned.set()

    async def _wait(self, *, to_open: bool) -> None:
        while self.is_open is not to_open:
            await self._turned.wait()
