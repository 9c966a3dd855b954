"""Spans as OTLP, read with OpenTelemetry's own protobuf classes."""

from __future__ import annotations

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from kmsconn import __version__
from kmsconn.config.settings import TracingSettings
from kmsconn.observe.otlp import otlp_encoder
from kmsconn.observe.spans import Span

TRACE, ROOT = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
ENCODE = otlp_encoder(TracingSettings("http://collector", resource={"service.name": "node-1"}))


def read(*spans: Span) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    request.ParseFromString(ENCODE(spans))
    return request


def test_a_span_has_its_ids_times_and_attributes() -> None:
    request = read(
        Span("check", TRACE, 5, ROOT, 1000.5, 1001.0, {"kmsconn.block": 55, "kmsconn.core": "core[0]"})
    )
    [span] = request.resource_spans[0].scope_spans[0].spans
    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) == (
        f"{TRACE:032x}", f"{5:016x}", f"{ROOT:016x}",
    )  # fmt: skip
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1_000_500_000_000, 1_001_000_000_000)
    assert {one.key: one.value.int_value or one.value.string_value for one in span.attributes} == {
        "kmsconn.block": 55,
        "kmsconn.core": "core[0]",
    }
    assert span.status.code == Status.STATUS_CODE_UNSET


def test_the_resource_names_the_service_and_its_version() -> None:
    [resource] = read(Span("check", TRACE, 5, ROOT, 0.0, 1.0, {})).resource_spans
    found = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert (found["service.name"], found["service.version"]) == ("node-1", __version__)


def test_a_failure_has_the_status_error() -> None:
    request = read(Span("check", TRACE, 5, ROOT, 0.0, 1.0, {}, "denied"))
    [span] = request.resource_spans[0].scope_spans[0].spans
    assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, "denied")


def test_the_request_s_own_span_has_no_parent() -> None:
    request = read(Span("public_decryption", TRACE, ROOT, None, 0.0, 1.0, {}))
    assert request.resource_spans[0].scope_spans[0].spans[0].parent_span_id == b""
