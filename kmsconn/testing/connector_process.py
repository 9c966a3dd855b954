"""The process of the connector in a world: it is started, it dies, and it may be held back from starting. Judges nothing."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import trio

from kmsconn.app.connector import Connector, open_connector
from kmsconn.config.settings import Settings
from kmsconn.errors import JournalFailed, StartAgain
from kmsconn.model.events import Event
from kmsconn.testing.killable import Life
from kmsconn.transport.ports import Ports


@attrs.define(eq=False)
class ConnectorProcess:
    """One process after the other; ``crashes`` says what those died of that were not killed.

    ``starts_anew``: how often one ended since its journal did not hold any more; ``kmsconn run`` starts such a connector anew.
    """

    life: Life = attrs.field(factory=Life)
    connector: Connector | None = None
    crashes: list[str] = attrs.field(factory=list)
    starts_anew: int = 0
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

    async def run(self, settings: Settings, ports: Ports, on_event: Callable[[Event], None]) -> None:
        """Run the connector until the present life ends."""
        life = self.life
        try:
            with life.scope:
                async with open_connector(settings, ports=ports, on_event=on_event) as connector:
                    self.connector = connector
                    await connector.wait_drained()
                    if not self._holds:
                        self.crashes.append("the connector ended by itself")
        except* Exception as group:  # noqa: BLE001 - whatever a living process dies of is a finding
            if _starts_anew(group):
                self.starts_anew += 1
                life.kill()
            elif not life.dead:
                self.crashes.append("".join(traceback.format_exception(group)))
        finally:
            self.connector = None
            life.ended.set()


def _starts_anew(group: ExceptionGroup[Exception]) -> bool:
    """Say whether a connector ended since its journal did not hold any more, and for no other reason."""
    _, others = group.split((StartAgain, JournalFailed))
    return others is None and group.subgroup(StartAgain) is not None
