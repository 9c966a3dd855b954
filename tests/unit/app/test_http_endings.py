"""When a request over HTTP ends for a failure, and what its client is told (fhevm-0.15.md, 5.6)."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn import errors
from kmsconn.app.http_endings import (
    HTTP_PATIENCE,
    UNEXPECTED,
    ending_of,
    expiry_cause,
    failure_of,
)
from kmsconn.app.row_outcomes import final_cause
from kmsconn.errors import (
    Broken,
    ContextInvalid,
    Denied,
    Destroyed,
    DestroyedOnce,
    Forgotten,
    Misconfigured,
    NoCiphertext,
    NotAttested,
    NotMember,
    NotYet,
    Overloaded,
    Refused,
    Rejected,
    RejectedByCore,
    RequestError,
    SignatureNotTaken,
    StageTimeout,
    Unreachable,
    WindowNotOpen,
    WindowOver,
    WrongSignature,
)
from kmsconn.journal.values import Row, RowEvent, RowProgress, RowReply, RowTimes
from kmsconn.model.life import RowCause, State
from kmsconn.model.requests import EventPlace, Kind, Request
from kmsconn.protocols.fhevm.http_decryption import read_public, read_user
from tests.unit.journal.samples import CHAIN, CONTRACT, arrival
from tests.unit.protocols.test_fhevm_http_decryption import LIMITS, public, user

AT_ONCE: dict[Any, str] = {
    Denied("no right"): "acl_denied",
    SignatureNotTaken("the wallet says no"): "user_signature_rejected",
    WindowNotOpen("valid from tomorrow on"): "user_signature_rejected",
    ContextInvalid("not valid"): "kms_context_invalid",
    NotMember("others answer it"): "kms_context_invalid",
}
SUSPECT: dict[Any, str] = {
    NoCiphertext("nobody has it"): "ciphertext_not_found",
    NotAttested("they do not agree"): "copro_consensus_failed",
    Misconfigured("a chain is not configured"): "upstream_transient",
    Broken("core", "another id"): "upstream_transient",
    Refused("INTERNAL"): "upstream_transient",
    RejectedByCore("INVALID_ARGUMENT"): "upstream_transient",
}
FINAL: dict[Any, str] = {
    Destroyed("context", 7): "kms_context_destroyed",
    WrongSignature("not the user's"): "user_signature_rejected",
    WindowOver("yesterday"): "user_signature_rejected",
    Rejected("the user is among the allowed contracts"): "unprocessable",
}
WAITED_FOR = (
    Unreachable("nobody"),
    Overloaded("less, please"),
    NotYet("no result yet"),
    Forgotten("who?"),
    StageTimeout("gather", 1.0),
    DestroyedOnce("a node says"),
)
CODES = {**AT_ONCE, **SUSPECT, **FINAL}


def row(state: State, cause: RowCause, reason: str = "why") -> Row:
    return Row(
        rid=1,
        id=5,
        kind=Kind.HTTP_USER_DECRYPTION,
        state=state,
        on_chain=True,
        event=RowEvent(CHAIN, CONTRACT, b"", arrival(1, 10).log),
        progress=RowProgress(0.0, 0.0, False, 0, reason, cause),
        answer=None,
        reply=RowReply(),
        times=RowTimes(0.0),
    )


def named(errors: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("error", errors, ids=lambda one: type(one).__name__)


@named(AT_ONCE)
def test_an_answer_about_the_request_ends_it_at_once_and_may_be_asked_again(error: RequestError) -> None:
    cause = ending_of(error, 0.0)
    assert cause is not None
    failure = failure_of(row(State.REJECTED, cause))
    assert (failure.code.value, failure.retryable) == (AT_ONCE[error], True)


@named(SUSPECT)
def test_what_may_be_a_dependencys_fault_is_tried_again_for_a_while(error: RequestError) -> None:
    assert ending_of(error, HTTP_PATIENCE - 0.1) is None
    cause = ending_of(error, HTTP_PATIENCE)
    assert cause is not None
    failure = failure_of(row(State.REJECTED, cause))
    assert (failure.code.value, failure.retryable) == (SUSPECT[error], True)


@named(FINAL)
def test_what_no_repetition_changes_is_final(error: RequestError) -> None:
    assert ending_of(error, 1e6) is None, "it ends as any request does"
    failure = failure_of(row(State.REJECTED, final_cause(error)))
    assert (failure.code.value, failure.retryable) == (FINAL[error], False)


@named(WAITED_FOR)
def test_a_dependency_that_does_not_answer_is_waited_for(error: RequestError) -> None:
    assert ending_of(error, 1e6) is None


def test_every_error_of_a_request_has_its_outcome() -> None:
    """A new class of error is to be put into one of the tables."""
    known = {type(one) for one in (*CODES, *WAITED_FOR)}
    others = {
        errors.RequestError,
        errors.Retryable,
        errors.Terminal,
        errors.Down,
        errors.JournalFailed,
        errors.AbortedByCore,
        errors.Aborted,
        errors.AlreadyDone,
        errors.Over,
    }
    classes = {
        one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, RequestError)
    }
    assert classes == known | others


def test_what_was_unforeseen_is_said_without_its_traceback() -> None:
    failure = failure_of(row(State.QUARANTINED, RowCause.REPEATABLE, "Traceback …"))
    assert (failure.code.value, failure.retryable, failure.message) == ("unknown", True, UNEXPECTED)


def test_what_an_operator_has_ended_is_final() -> None:
    failure = failure_of(row(State.REJECTED, RowCause.SKIPPED, "skipped by an operator: no"))
    assert (failure.code.value, failure.retryable) == ("unprocessable", False)


def test_a_failure_names_its_request_and_its_reason() -> None:
    failure = failure_of(row(State.REJECTED, RowCause.NONE, "because"))
    assert (failure.decryption_id, failure.message) == (5, "because")


def request(content: Any, deadline: float) -> Request:
    return Request(1, CHAIN, CONTRACT, content, b"", EventPlace(-1, b"", b"", 0), deadline)


def test_a_request_that_was_worked_on_for_long_enough_may_be_asked_again() -> None:
    cause = expiry_cause(request(read_public(public(), LIMITS), 100.0))
    failure = failure_of(row(State.EXPIRED, cause))
    assert (failure.code.value, failure.retryable) == ("timeout", True)


def test_a_window_that_ended_first_is_final() -> None:
    content = read_user(user(), LIMITS)
    cause = expiry_cause(request(content, content.valid_until + 1.0))
    failure = failure_of(row(State.EXPIRED, cause))
    assert (failure.code.value, failure.retryable) == ("user_signature_rejected", False)
