"""Traces beside a connector: a bounded queue of spans, and one task that exports them. Never holds up a request, never stops a start.

Spans beyond the queue are lost and counted; an alert says so, and whether the collector is out of reach. What is still queued at the end
has ``FAREWELL`` seconds. They go as OTLP over HTTP: encoded by OpenTelemetry's SDK, which the extra ``otel`` brings, and posted by our own
client; the SDK's exporter would bring a thread and a second HTTP client into the process that holds the key.
"""

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs
import trio

from kmsconn import __version__
from kmsconn.config.settings import Settings, TracingSettings
from kmsconn.errors import Misconfigured, Overloaded, Unreachable
from kmsconn.extras import require_extra
from kmsconn.model.alerts import Board
from kmsconn.model.events import Event, OnEvent
from kmsconn.observe.spans import Span, SpanMaker
from kmsconn.transport.http import HttpClient, open_http
from kmsconn.transport.ports import Offload, Ports
from kmsconn.transport.urls import show
from kmsconn.transport.waiting import Backoff

FAREWELL: Final = 5.0  # seconds for what is queued at the end: short of any supervisor's patience
DEPENDENCY: Final = "traces"
REMEDY: Final = "check that the collector runs and takes OTLP over HTTP; requests go on, and spans are lost once the queue is full"
EXPORT_BACKOFF = Backoff(first=1.0, cap=60.0)
LARGEST_ANSWER: Final = 64 * 1024  # bytes; a collector says next to nothing
_NANOSECONDS: Final = 1_000_000_000
_TRY_AGAIN: Final = frozenset({429, 502, 503, 504})
"""The statuses after which OTLP asks for the same again."""

Encode = Callable[[Sequence[Span]], bytes]


class NotTaken(Exception):  # noqa: N818 - says what happened
    """A collector refused spans; the same ones would be refused again."""


Export = Callable[[Sequence[Span]], Awaitable[None]]
"""Takes spans out of the process. Raises Unreachable, Overloaded or Misconfigured where it may be tried again, NotTaken where not."""


class Tracing:
    """The spans of one connector on their way to an exporter."""

    def __init__(self, maker: SpanMaker, on_event: OnEvent) -> None:
        self.lost = 0
        """Spans that no collector got."""
        self._maker = maker
        self._board = Board(on_event, trio.current_time)
        self._queue: deque[Span] = deque()
        self._full = trio.Event()

    def on_event(self, event: Event) -> None:
        """Take an event."""
        tracing = self._maker.tracing
        for span in self._maker.take(event):
            if len(self._queue) >= tracing.queue:
                self.lost += 1
            else:
                self._queue.append(span)
        if len(self._queue) >= min(tracing.batch, tracing.queue):
            self._full.set()

    def context(self, event: Event) -> Mapping[str, str]:
        """Return the trace of a log line about an event."""
        return self._maker.context(event)

    async def run(self, export: Export) -> None:
        """Export what is queued, every ``delay`` seconds or when a batch is full. Ends only by cancellation."""
        failures = 0
        while True:
            await self._wait(EXPORT_BACKOFF.seconds(failures, self._maker.random()) if failures else 0.0)
            failures = 0 if await self._export(export) else failures + 1

    async def _wait(self, pause: float) -> None:
        if pause:
            await trio.sleep(pause)
            return
        with trio.move_on_after(self._maker.tracing.delay):
            await self._full.wait()
        self._full = trio.Event()

    async def _export(self, export: Export) -> bool:
        """Export all that is queued; say whether the collector took part in it."""
        while self._queue:
            batch = [self._queue[place] for place in range(min(self._maker.tracing.batch, len(self._queue)))]
            try:
                with trio.fail_after(self._maker.tracing.timeout):
                    await export(batch)
            except NotTaken as error:
                self.lost += len(batch)
                self._failed(error)
            except (Unreachable, Overloaded, Misconfigured, trio.TooSlowError) as error:
                self._failed(error)
                return False
            else:
                self._board.set("unreachable", DEPENDENCY, None)
            for _ in batch:
                self._queue.popleft()
        return True

    def _failed(self, error: Exception) -> None:
        tracing = self._maker.tracing
        reason = f"{show(tracing.endpoint)}: no answer within {tracing.timeout:g} s"
        text = reason if isinstance(error, trio.TooSlowError) else str(error)
        self._board.set("unreachable", DEPENDENCY, text, critical=False, remedy=REMEDY)

    async def say_farewell(self, export: Export) -> None:
        """Export what is left, within a deadline; what is queued then is lost."""
        with trio.move_on_after(FAREWELL, shield=True):
            await self._export(export)
        self.lost += len(self._queue)
        self._queue.clear()


# --- to a collector


def otlp_encoder(tracing: TracingSettings) -> Encode:
    """Return what encodes spans as an ``ExportTraceServiceRequest``. Raises ExtraMissing."""
    require_extra("otel", "the export of traces")
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    of_whom = Resource({"service.version": __version__, **tracing.resource})
    scope = InstrumentationScope("kmsconn", __version__)
    sampled = TraceFlags(TraceFlags.SAMPLED)

    def context(trace_id: int, span_id: int) -> SpanContext:
        return SpanContext(trace_id, span_id, is_remote=False, trace_flags=sampled)

    def readable(span: Span) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=context(span.trace_id, span.span_id),
            parent=None if span.parent_id is None else context(span.trace_id, span.parent_id),
            resource=of_whom,
            attributes=span.attributes,
            kind=SpanKind.CONSUMER if span.parent_id is None else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=round(span.start * _NANOSECONDS),
            end_time=round(span.end * _NANOSECONDS),
            instrumentation_scope=scope,
        )

    def encode(spans: Sequence[Span]) -> bytes:
        encoded: bytes = encode_spans([readable(span) for span in spans]).SerializeToString()
        return encoded

    return encode


@attrs.frozen
class OtlpExporter:
    """Posts spans to a collector."""

    tracing: TracingSettings
    http: HttpClient
    encode: Encode
    offload: Offload

    async def export(self, spans: Sequence[Span]) -> None:
        """Post spans. Raises Unreachable or Overloaded where they may be posted again, NotTaken where not.

        Cancellation: the collector may have them. Repeating: a collector keeps a span that comes twice once, or twice.
        """
        body = await self.offload("traces", partial(self._body, spans))
        answer = await self.http.post(self.tracing.endpoint, body, self._headers(), max_bytes=LARGEST_ANSWER)
        if answer.status in _TRY_AGAIN:
            raise Overloaded(f"{show(self.tracing.endpoint)}: HTTP {answer.status}")
        if not 200 <= answer.status < 300:  # noqa: PLR2004 - the class of statuses
            raise NotTaken(f"{show(self.tracing.endpoint)}: HTTP {answer.status}")

    def _body(self, spans: Sequence[Span]) -> bytes:
        body = self.encode(spans)
        return gzip.compress(body) if self.tracing.gzip else body

    def _headers(self) -> dict[str, str]:
        headers = {name: secret.reveal() for name, secret in self.tracing.headers.items()}
        headers["Content-Type"] = "application/x-protobuf"
        if self.tracing.gzip:
            headers["Content-Encoding"] = "gzip"
        return headers


@asynccontextmanager
async def open_tracing(settings: Settings, ports: Ports, on_event: OnEvent) -> AsyncIterator[Tracing | None]:
    """Export traces while the block lasts; None where the settings name no collector. ``on_event`` takes the alerts.

    Raises ExtraMissing where the extra ``otel`` is not installed. Cancellation: what is queued has ``FAREWELL`` seconds.
    """
    if settings.monitoring.tracing is None:
        yield None
        return
    encode = otlp_encoder(settings.monitoring.tracing)
    tracing = Tracing(SpanMaker(settings, settings.monitoring.tracing, ports.wall, ports.random), on_event)
    async with open_http(attrs.evolve(ports, proxies=settings.proxies)) as http:
        export = OtlpExporter(settings.monitoring.tracing, http, encode, ports.offload).export
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tracing.run, export)
            try:
                yield tracing
            finally:
                nursery.cancel_scope.cancel()
                await tracing.say_farewell(export)  # noqa: ASYNC102 - shields itself, with a deadline
