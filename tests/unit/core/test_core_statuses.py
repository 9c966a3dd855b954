"""The tables are total and say what outcomes.md says."""

from __future__ import annotations

import pytest

from kmsconn.core.statuses import RESULT, START, UNSPOKEN, result_error, start_error
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
    Terminal,
    Unreachable,
)
from kmsconn.transport.grpc.framing import MAX_TEXT, Status, StatusError, printable

WAIT = (Status.DEADLINE_EXCEEDED, Status.UNKNOWN, Status.CANCELLED)
OPERATOR = (Status.UNAUTHENTICATED, Status.PERMISSION_DENIED, Status.UNIMPLEMENTED)
REJECT = (Status.INVALID_ARGUMENT, Status.FAILED_PRECONDITION, Status.OUT_OF_RANGE, Status.DATA_LOSS)
COMMON: dict[Status, type[RequestError]] = {
    **dict.fromkeys(WAIT, Unreachable),
    **dict.fromkeys(OPERATOR, Misconfigured),
    **dict.fromkeys(REJECT, RejectedByCore),
    Status.RESOURCE_EXHAUSTED: Overloaded,
    Status.INTERNAL: Refused,
}
STARTED: dict[Status, type[RequestError]] = {
    **COMMON,
    Status.UNAVAILABLE: Unreachable,
    Status.ABORTED: Overloaded,
    Status.NOT_FOUND: NotYet,
}
ASKED: dict[Status, type[RequestError]] = {
    **COMMON,
    Status.UNAVAILABLE: NotYet,
    Status.ABORTED: AbortedByCore,
    Status.NOT_FOUND: Forgotten,
    Status.ALREADY_EXISTS: Broken,
}


@pytest.mark.parametrize("table", [START, RESULT, UNSPOKEN])
def test_the_table_knows_every_status(table: dict[Status, object]) -> None:
    assert set(Status) == set(table)


@pytest.mark.parametrize("status", [Status.OK, Status.ALREADY_EXISTS])
def test_a_start_call_succeeds_also_when_it_is_repeated(status: Status) -> None:
    assert start_error(StatusError(status), "core[0] KeyGen") is None


@pytest.mark.parametrize(("status", "kind"), STARTED.items())
def test_what_a_start_call_s_end_means(status: Status, kind: type[RequestError]) -> None:
    assert kind is type(start_error(StatusError(status), "core[0] KeyGen"))


@pytest.mark.parametrize(("status", "kind"), ASKED.items())
def test_what_a_result_call_s_end_means(status: Status, kind: type[RequestError]) -> None:
    assert kind is type(result_error(StatusError(status), "core[0] GetKeyGenResult"))


def test_every_end_but_ok_is_covered_above() -> None:
    assert set(Status) - {Status.OK} == set(ASKED)
    assert set(Status) - {Status.OK, Status.ALREADY_EXISTS} == set(STARTED)


@pytest.mark.parametrize("status", Status)
def test_a_status_that_the_core_did_not_speak_never_rejects_a_request(status: Status) -> None:
    for meaning in (start_error, result_error):
        error = meaning(StatusError(status, spoken=False), "core[0] x")
        assert error is not None
        assert not isinstance(error, (Terminal, NotYet, Broken))


def test_the_error_names_place_status_and_text() -> None:
    error = start_error(StatusError(Status.INTERNAL, "Failed on requestID 01"), "core[1] PublicDecrypt")
    assert str(error) == "core[1] PublicDecrypt: INTERNAL: Failed on requestID 01"


def test_foreign_text_is_cut_and_has_no_control_characters() -> None:
    assert printable("a\nb\x1b") == "a?b?"
    assert len(printable("x" * 5000)) == MAX_TEXT
