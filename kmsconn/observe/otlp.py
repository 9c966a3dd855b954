"""Spans as OTLP over HTTP: encoded by OpenTelemetry's SDK, posted by our own client. Needs the extra ``otel``.

The SDK's own exporter would bring a thread and a second HTTP client into the process that holds the key.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import attrs

from kmsconn import __version__
from kmsconn.config.settings import TracingSettings
from kmsconn.errors import Overloaded, Unreachable
from kmsconn.extras import require_extra
from kmsconn.observe.spans import Span
from kmsconn.transport.http import HttpClient
from kmsconn.transport.ports import Offload
from kmsconn.transport.urls import show

Encode = Callable[[Sequence[Span]], bytes]

LARGEST_ANSWER: Final = 64 * 1024  # bytes; a collector says next to nothing
_NANOSECONDS: Final = 1_000_000_000
_TRY_AGAIN: Final = frozenset({429, 502, 503, 504})
"""The statuses after which OTLP asks for the same again."""


class NotTaken(Exception):  # noqa: N818 - says what happened
    """A collector refused spans; the same ones would be refused again."""


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


FAILURES: Final = (Unreachable, Overloaded, NotTaken)
