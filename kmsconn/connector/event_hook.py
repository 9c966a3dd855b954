"""The caller's ``on_event`` hook, kept so that its exceptions end the connector: no boundary of the connector handles them.

A hook that raised where it was called would leave a change half done there, and a stage or the worker boundary could swallow the
exception.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Never

import attrs
import trio

from kmsconn.config.options import OptionTable
from kmsconn.model.events import AlertRaised, Event, OnEvent


def in_words_of(table: OptionTable, on_event: OnEvent) -> OnEvent:
    """Return a hook whose alerts name options as a generation does."""

    def tell(event: Event) -> None:
        if isinstance(event, AlertRaised):
            text, remedy = table.in_own_words(event.text), table.in_own_words(event.remedy)
            event = attrs.evolve(event, text=text, remedy=remedy)
        on_event(event)

    return tell if table.names else on_event


@attrs.define
class EventHook:
    """Calls the hook; after its first exception never again. ``note`` takes each event before, with Trio's time."""

    on_event: OnEvent
    note: Callable[[Event, float], object] = lambda _event, _now: None
    _error: Exception | None = None
    _failed: trio.Event = attrs.field(factory=trio.Event)

    def __call__(self, event: Event) -> None:
        """Tell an event."""
        self.note(event, trio.current_time())
        if self._error is not None:
            return
        try:
            self.on_event(event)
        except Exception as error:  # noqa: BLE001 - not taken: ``watch`` raises it in the middle of the tree
            self._error = error
            self._failed.set()

    async def watch(self) -> Never:
        """Wait for ever. Raises what the hook raised, as soon as it did."""
        await self._failed.wait()
        assert self._error is not None
        raise self._error
