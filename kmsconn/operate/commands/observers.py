"""What hears the events of ``kmsconn run``: metrics and health, traces where they are on, and the log. Decides nothing about requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
from structlog.typing import FilteringBoundLogger

from kmsconn.config.settings import Settings
from kmsconn.extras import ExtraMissing, require_extra
from kmsconn.model.events import Event, OnEvent, ignore
from kmsconn.observe.logs import log_events
from kmsconn.observe.monitor import Monitor
from kmsconn.transport.dialling import real_ports
from kmsconn.transport.ports import Ports

if TYPE_CHECKING:
    from kmsconn.observe.tracing import Tracing


@attrs.define
class Observers:
    """Hands each event to everybody who listens, the log last: its lines name the span that the event ended."""

    monitor: Monitor = attrs.field(factory=Monitor)
    tracing: Tracing | None = None
    log: OnEvent = ignore

    def on_event(self, event: Event) -> None:
        """Take an event."""
        self.monitor.on_event(event)
        if self.tracing is not None:
            self.tracing.on_event(event)
        self.log(event)

    def context(self, event: Event) -> Mapping[str, str]:
        """Return what a log line says of an event's trace; nothing where traces are off."""
        return {} if self.tracing is None else self.tracing.context(event)


def make_observers(settings: Settings, log: FilteringBoundLogger) -> Observers:
    """Return the observers of a connector; its traces begin with ``open_traces``."""
    observers = Observers()
    context = None if settings.monitoring.tracing is None else observers.context
    observers.log = log_events(log, settings.monitoring.log_level, context)
    return observers


@asynccontextmanager
async def open_traces(
    settings: Settings, ports: Ports | None, observers: Observers, log: FilteringBoundLogger
) -> AsyncIterator[None]:
    """Export traces while the block lasts, where a collector is named; an installation without the extra says so and goes on."""
    if settings.monitoring.tracing is None or not _can_trace(log):
        yield
        return
    from kmsconn.observe.tracing import open_tracing

    async with open_tracing(settings, ports or real_ports(), observers.on_event) as observers.tracing:
        yield
    if observers.tracing is not None and observers.tracing.lost:
        log.warning("spans lost", spans=observers.tracing.lost)


def _can_trace(log: FilteringBoundLogger) -> bool:
    """The services of 0.14 have the variables set too: that a package is missing must not keep a connector from starting."""
    try:
        require_extra("otel", "the export of traces")
    except ExtraMissing as error:
        log.warning("traces are off", reason=str(error))
        return False
    return True
