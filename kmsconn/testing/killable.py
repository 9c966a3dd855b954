"""A process that can die: once dead, nothing that it does reaches the outside any more, whatever code still runs.

Cancelling alone would be too kind: shielded clean-up would go on writing. So every outside effect, a byte sent, a connection made,
blocking work such as a COMMIT, looks at one flag first.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from random import Random
from typing import TypeVar

import attrs
import trio

from kmsconn.config.settings import Settings
from kmsconn.connector.connector import Connector, open_connector
from kmsconn.errors import JournalFailed, JournalUnreachable, StartAgain, StartRefused
from kmsconn.model.events import Event
from kmsconn.testing.spoiling import WrappedStream
from kmsconn.transport.ports import Dial, Ports

T = TypeVar("T")


class Killed(Exception):  # noqa: N818 - what happened to the process
    """Raised inside a dead process; a world catches it, nobody else should."""


@attrs.define(eq=False)
class Life:
    """The life of one emulated process. ``kill_before``/``kill_after`` name the journal's n-th piece of work to die at.

    ``leaving``: it was asked to end.
    """

    kill_before: int | None = None
    kill_after: int | None = None
    dead: bool = False
    leaving: bool = False
    works: int = 0
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ended: trio.Event = attrs.field(factory=trio.Event)

    def kill(self) -> None:
        """Die now, as under ``kill -9``."""
        self.dead = True
        self.scope.cancel()

    def check(self) -> None:
        """Raise Killed in a dead process."""
        if self.dead:
            raise Killed


@attrs.frozen
class KillablePorts:
    """Ports that a life decides over. Blocking work is done inline, with waits before and after as threads would have them."""

    life: Life
    dial: Dial
    wall: Callable[[], float]
    random: Random
    longest_work: float = 0.05

    def ports(self) -> Ports:
        """Return them as the connector takes them."""
        return Ports(self._dial, self._offload, self.wall, self.random.random)

    async def _dial(self, host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        self.life.check()
        return KillableStream(self.life, await self.dial(host, port, tls=tls))

    async def _offload(self, use: str, work: Callable[[], T]) -> T:
        with trio.CancelScope(shield=True):
            await trio.sleep(self._pause())
            self._begin(use)
            result = work()
            self._end(use)
            await trio.sleep(self._pause())
        await trio.lowlevel.checkpoint_if_cancelled()
        return result

    def _pause(self) -> float:
        # mostly short, now and then long: a stale read must have time to be stale
        return self.random.choice((0.0, 0.0, 0.001, 0.001, self.longest_work))

    def _begin(self, use: str) -> None:
        if use == "journal":
            self.life.works += 1
            if self.life.works == self.life.kill_before:
                self.life.kill()
        self.life.check()

    def _end(self, use: str) -> None:
        if use == "journal" and self.life.works == self.life.kill_after:
            self.life.kill()
        self.life.check()


class KillableStream(WrappedStream):
    """A stream on which a dead process sends nothing; the peer sees its connection end all the same."""

    def __init__(self, life: Life, stream: trio.abc.Stream) -> None:
        super().__init__(stream)
        self._life = life

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, if alive."""
        self._life.check()
        await super().send_all(data)


@attrs.define(eq=False)
class ConnectorProcess:
    """One process after the other, which dial and draw pauses alike; ``crashes`` says what those died of that were not killed.

    One that ends since its journal does not hold any more is no crash: ``kmsconn run`` starts such a connector anew.
    ``refusals``: starts that were refused while ``may_refuse``; at other times one is a crash.
    """

    dial: Dial
    random: Random
    life: Life = attrs.field(factory=Life)
    connector: Connector | None = None
    context: Context = attrs.field(factory=copy_context)
    """That of the present process: what is started in it is a task of the process."""
    crashes: list[str] = attrs.field(factory=list)
    refusals: list[str] = attrs.field(factory=list)
    may_refuse: Callable[[], bool] = lambda: False
    _holds: int = 0
    _free: trio.Event = attrs.field(factory=trio.Event)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no process start within the block."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if not self._holds:
                self._free.set()

    async def wait_free(self) -> None:
        """Wait until a process may start."""
        while self._holds:
            self._free = trio.Event()
            await self._free.wait()

    def kill(self) -> None:
        """Let the present process die."""
        self.life.kill()

    def drain(self) -> None:
        """Ask the present process to end well, as soon as there is a connector."""
        self.life.leaving = True
        if self.connector is not None:
            self.connector.drain()

    async def run(
        self, settings: Settings, wall: Callable[[], float], on_event: Callable[[Event], None]
    ) -> None:
        """Begin a life, and run the connector until its end."""
        life = self.life = Life()
        ports = KillablePorts(life, self.dial, wall, self.random).ports()
        try:
            with life.scope:
                async with open_connector(settings, ports=ports, on_event=on_event) as connector:
                    self.connector, self.context = connector, copy_context()
                    if life.leaving:
                        connector.drain()
                    await connector.wait_drained()
                    if not life.leaving:
                        self.crashes.append("the connector ended by itself")
        except* Exception as group:  # noqa: BLE001 - whatever a living process dies of is a finding
            self._note_end(life, group)
        finally:
            self.connector = None
            life.ended.set()

    def _note_end(self, life: Life, group: ExceptionGroup[Exception]) -> None:
        if _starts_anew(group):
            life.kill()
        elif group.split(StartRefused)[1] is None and self.may_refuse():
            self.refusals.append("".join(traceback.format_exception_only(group.exceptions[0])))
        elif not life.dead:
            self.crashes.append("".join(traceback.format_exception(group)))


def _starts_anew(group: ExceptionGroup[Exception]) -> bool:
    """Say whether a connector ended since its journal did not hold any more, and for no other reason."""
    _, others = group.split((StartAgain, JournalFailed, JournalUnreachable))
    return others is None and group.subgroup(StartAgain) is not None
