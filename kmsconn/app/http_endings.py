"""Decides when a request over HTTP ends for a failure, and what its client is told of an ended one. Pure.

A request from the chain waits for hours for what may change, since nobody repeats it. A client does: what is an answer about its request
ends it at once. What may be a dependency's fault is tried again for ``HTTP_PATIENCE``, and then told. A dependency that does not answer
at all is waited for as for any request: the client's own time ends first, and the same request finds the work where it stands.
Source: fhevm-0.15.md, 5.5 and 5.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kmsconn.errors import (
    Broken,
    ContextInvalid,
    Denied,
    DestroyedOnce,
    Misconfigured,
    NoCiphertext,
    NotAttested,
    NotMember,
    Refused,
    RejectedByCore,
    RequestError,
    SignatureNotTaken,
    WindowNotOpen,
)
from kmsconn.journal.values import Row
from kmsconn.model.http_answers import FailureCode, HttpFailure
from kmsconn.model.life import RowCause, State
from kmsconn.model.requests import Request

HTTP_PATIENCE: Final = 3.0
"""Seconds since it was asked for that a request is tried again for what may be a dependency's fault: a relayer gives up after 5."""

UNEXPECTED: Final = "an unexpected error, which this node has noted"
"""What a client is told of a traceback."""

_ANSWERS: Final[Mapping[type[RequestError], RowCause]] = {
    Denied: RowCause.ACCESS_DENIED,
    SignatureNotTaken: RowCause.SIGNATURE_REFUSED,
    WindowNotOpen: RowCause.SIGNATURE_REFUSED,
    ContextInvalid: RowCause.CONTEXT_NOT_VALID,
    NotMember: RowCause.CONTEXT_NOT_VALID,
}
_SUSPECT: Final[Mapping[type[RequestError], RowCause]] = {
    NoCiphertext: RowCause.NO_CIPHERTEXT,
    NotAttested: RowCause.NO_CONSENSUS,
    Misconfigured: RowCause.DEPENDENCY_FAILED,
    Broken: RowCause.DEPENDENCY_FAILED,
    Refused: RowCause.DEPENDENCY_FAILED,
    RejectedByCore: RowCause.DEPENDENCY_FAILED,
}

_CODES: Final[Mapping[RowCause, FailureCode]] = {
    RowCause.ACCESS_DENIED: FailureCode.ACL_DENIED,
    RowCause.SIGNATURE_REFUSED: FailureCode.USER_SIGNATURE_REJECTED,
    RowCause.NO_CIPHERTEXT: FailureCode.CIPHERTEXT_NOT_FOUND,
    RowCause.NO_CONSENSUS: FailureCode.COPRO_CONSENSUS_FAILED,
    RowCause.CONTEXT_NOT_VALID: FailureCode.KMS_CONTEXT_INVALID,
    RowCause.DESTROYED: FailureCode.KMS_CONTEXT_DESTROYED,
    RowCause.DEPENDENCY_FAILED: FailureCode.UPSTREAM_TRANSIENT,
}
_OTHERWISE: Final[Mapping[State, FailureCode]] = {
    State.REJECTED: FailureCode.UNPROCESSABLE,
    State.QUARANTINED: FailureCode.UNPROCESSABLE,
    State.EXPIRED: FailureCode.TIMEOUT,
}


def ending_of(error: RequestError, age: float) -> RowCause | None:
    """Return why a request of an ``age`` in seconds ends for an error; None: it waits and is tried again, or ends as any request does."""
    if isinstance(error, DestroyedOnce):  # a later head says whether that is so
        return None
    if (cause := _cause(_ANSWERS, error)) is not None:
        return cause | RowCause.REPEATABLE
    if (cause := _cause(_SUSPECT, error)) is None:
        return None
    return cause | RowCause.REPEATABLE if age >= HTTP_PATIENCE else None


def until_next_try(seconds: float, age: float) -> float:
    """Return the wait of a request of an ``age`` in seconds: its last try is at the end of its patience, and then its client is told."""
    return min(seconds, HTTP_PATIENCE - age) if age < HTTP_PATIENCE else seconds


def expiry_cause(request: Request) -> RowCause:
    """Return what is kept of a request over HTTP whose time is over: that of its user's window, or that which it is worked on."""
    in_window = request.answered_until >= request.deadline
    return RowCause.REPEATABLE if in_window else RowCause.SIGNATURE_REFUSED


def _cause(table: Mapping[type[RequestError], RowCause], error: RequestError) -> RowCause | None:
    return next((cause for kind, cause in table.items() if isinstance(error, kind)), None)


def failure_of(row: Row) -> HttpFailure:
    """Return what the client of a request is told that has ended without an answer."""
    causes = row.progress.cause
    if row.state is State.QUARANTINED and RowCause.REPEATABLE in causes:
        return HttpFailure(FailureCode.UNKNOWN, UNEXPECTED, decryption_id=row.id)
    code = next((code for cause, code in _CODES.items() if cause in causes), None)
    if code is None:
        code = _OTHERWISE.get(row.state, FailureCode.UNKNOWN)
    return HttpFailure(
        code,
        row.progress.reason,
        retryable=RowCause.REPEATABLE in causes,
        decryption_id=row.id,
    )
