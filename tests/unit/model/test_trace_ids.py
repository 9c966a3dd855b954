"""The trace of a request follows from the request."""

from __future__ import annotations

from hashlib import sha256

from kmsconn.model.requests import Kind
from kmsconn.model.trace_ids import TraceContext, trace_of

PUBLIC = Kind.PUBLIC_DECRYPTION


def test_an_operator_can_compute_the_trace_id_with_sha256sum() -> None:
    said = f"kmsconn:10901:public_decryption:{7:064x}".encode()
    assert trace_of(10901, PUBLIC, 7).trace_hex == sha256(said).hexdigest()[:32]


def test_another_id_kind_or_deployment_is_another_trace() -> None:
    traces = {
        trace_of(10901, PUBLIC, 7),
        trace_of(10901, PUBLIC, 8),
        trace_of(10901, Kind.USER_DECRYPTION, 7),
        trace_of(10902, PUBLIC, 7),
    }
    assert len({trace.trace_id for trace in traces}) == len({trace.span_id for trace in traces}) == 4


def test_the_header_has_the_form_of_w3c_trace_context() -> None:
    trace = TraceContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7)
    assert trace.traceparent(sampled=True) == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert trace.traceparent(sampled=False).endswith("-00")
