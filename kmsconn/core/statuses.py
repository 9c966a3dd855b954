"""What a gRPC status means for a request: two total tables, one for start calls, one for result calls; no I/O.

Only the Core's own word can reject a request. A status that was made up on the way (an HTTP error page, a reset
stream) says that the Core was not reached, or that the operator pointed us at the wrong place.

Source: outcomes.md, rows submit and answer; kms-core-grpc.md section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from kmsconn.errors import (
    AbortedByCore,
    Broken,
    Forgotten,
    Misconfigured,
    NotYet,
    Overloaded,
    Refused,
    RejectedByCore,
    RequestError,
    Unreachable,
)
from kmsconn.transport.grpc.framing import Status, StatusError

Make = Callable[[str], RequestError]


START: Mapping[Status, Make | None] = {
    Status.OK: None,
    Status.ALREADY_EXISTS: None,  # a repeated start call is success
    Status.UNAVAILABLE: Unreachable,
    Status.DEADLINE_EXCEEDED: Unreachable,
    Status.UNKNOWN: Unreachable,
    Status.CANCELLED: Unreachable,
    Status.RESOURCE_EXHAUSTED: Overloaded,
    Status.ABORTED: Overloaded,  # the table of requests is full
    Status.NOT_FOUND: NotYet,  # context, epoch or key not known yet
    Status.UNAUTHENTICATED: Misconfigured,
    Status.PERMISSION_DENIED: Misconfigured,
    Status.UNIMPLEMENTED: Misconfigured,
    Status.INVALID_ARGUMENT: RejectedByCore,
    Status.FAILED_PRECONDITION: RejectedByCore,
    Status.OUT_OF_RANGE: RejectedByCore,
    Status.DATA_LOSS: RejectedByCore,
    Status.INTERNAL: Refused,
}

RESULT: Mapping[Status, Make | None] = {
    **START,
    Status.UNAVAILABLE: NotYet,  # the long poll ended before the result was there
    Status.NOT_FOUND: Forgotten,  # the Core restarted, or evicted the entry
    Status.ABORTED: AbortedByCore,
    Status.ALREADY_EXISTS: partial(Broken, "core"),  # no answer to a question
}

UNSPOKEN: Mapping[Status, Make] = {
    **dict.fromkeys(Status, Unreachable),
    Status.RESOURCE_EXHAUSTED: Overloaded,
    Status.UNAUTHENTICATED: Misconfigured,
    Status.PERMISSION_DENIED: Misconfigured,
    Status.UNIMPLEMENTED: Misconfigured,
}


def start_error(error: StatusError, where: str) -> RequestError | None:
    """Say what the end of a start call means; None is success. ``where`` names method and endpoint."""
    return _error(START, error, where)


def result_error(error: StatusError, where: str) -> RequestError | None:
    """Say what the end of a result call means; None is success. ``where`` names method and endpoint."""
    return _error(RESULT, error, where)


def _error(table: Mapping[Status, Make | None], error: StatusError, where: str) -> RequestError | None:
    make = table[error.status] if error.spoken else UNSPOKEN[error.status]
    return None if make is None else make(f"{where}: {error}")
