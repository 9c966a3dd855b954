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
    KmsconnError,
    Misconfigured,
    NotYet,
    Overloaded,
    Refused,
    RejectedByCore,
    RequestError,
    Unreachable,
)
from kmsconn.kms.codes import Status

MAX_TEXT = 1024

Make = Callable[[str], RequestError]


class StatusError(KmsconnError):
    """A call ended with a status other than OK. ``spoken`` says whether the server itself said so."""

    def __init__(self, status: Status, message: str = "", *, spoken: bool = True) -> None:
        super().__init__(f"{status.name}: {printable(message)}" if message else status.name)
        self.status, self.message, self.spoken = status, message, spoken


class NotProcessed(StatusError):  # noqa: N818 - says what happened, as those of kmsconn.errors
    """The server says that it did nothing with the call: it may be made again whatever it does."""

    def __init__(self, message: str) -> None:
        super().__init__(Status.UNAVAILABLE, message, spoken=False)


def printable(text: str) -> str:
    """Return a foreign text without control characters, at most 1024 characters long."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:MAX_TEXT])


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
