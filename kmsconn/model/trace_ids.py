"""The trace of a request: its id follows from the request alone, so every process of every node gives it the same one. Pure.

The trace id is the first half of ``SHA-256("kmsconn:<Gateway chain id>:<kind>:<id, 64 hex digits>")``, the id of the request's own span
the eight bytes after it.
"""

from __future__ import annotations

from hashlib import sha256

import attrs

from kmsconn.model.requests import Kind

TRACE_BYTES, SPAN_BYTES = 16, 8


@attrs.frozen
class TraceContext:
    """A trace and the span of its request, as numbers of 128 and 64 bits."""

    trace_id: int
    span_id: int

    @property
    def trace_hex(self) -> str:
        """The trace id as collectors show it."""
        return f"{self.trace_id:032x}"

    def traceparent(self, *, sampled: bool) -> str:
        """Return the header of W3C Trace Context, version 00."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{sampled:02x}"


def trace_of(gateway_chain_id: int, kind: Kind, identifier: int) -> TraceContext:
    """Return the trace of the request with this id in the deployment of a Gateway."""
    digest = sha256(f"kmsconn:{gateway_chain_id}:{kind.value}:{identifier:064x}".encode()).digest()
    rest = digest[TRACE_BYTES:]
    return TraceContext(int.from_bytes(digest[:TRACE_BYTES]), int.from_bytes(rest[:SPAN_BYTES]))
