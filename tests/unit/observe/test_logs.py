"""Events as log lines."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from kmsconn.config.description import LogFormat
from kmsconn.model import events
from kmsconn.model.life import State
from kmsconn.model.requests import NO_BLOCK, Kind
from kmsconn.observe.logs import LEVELS, LibraryLogs, LineLog, event_name, line_takes
from kmsconn.observe.tally import EventTakers
from tests.unit.observe.snapshots import CONTRACT, EACH, PUBLIC


def lines(*seen: events.Event, level: str = "debug") -> list[dict[str, Any]]:
    stream = io.StringIO()
    on_event = EventTakers(line_takes(LineLog(stream, level, LogFormat.JSON))).on_event
    for event in seen:
        on_event(event)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_event_has_a_level() -> None:
    assert LEVELS.keys() == {type(event) for event in EACH}


def test_each_event_is_one_line() -> None:
    assert [line["event"] for line in lines(*EACH)] == [event_name(type(event).__name__) for event in EACH]


def test_a_line_has_the_fields_of_its_event() -> None:
    (line,) = lines(events.StageFinished(1, PUBLIC, "check", 0.03))
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "stage_finished", "level": "debug", "rid": 1, "kind": "public_decryption", "stage": "check", "seconds": 0.03,
    }  # fmt: skip


def test_an_id_is_hex_since_json_readers_would_round_it() -> None:
    (line,) = lines(events.RequestRecorded(1, PUBLIC, (1 << 248) | 7, 10901, 55, b"\x03" * 32, 2))
    assert line["id"] == "0x1" + "0" * 61 + "7"


def test_addresses_have_a_checksum_and_hashes_are_hex() -> None:
    assert lines(events.LogQuarantined(1, CONTRACT, 5, 3, ""))[0]["contract"].startswith("0x0000")
    assert lines(events.ReplySigned(1, PUBLIC, 9, b"\x01" * 32))[0]["transaction_hash"] == "0x" + "01" * 32


def test_an_included_reply_has_its_transaction_at_the_default_level() -> None:
    (line,) = lines(events.ReplyIncluded(1, PUBLIC, 60, 1.4, transaction_hash=b"\x01" * 32))
    assert (line["level"], line["transaction_hash"]) == ("info", "0x" + "01" * 32)


@pytest.mark.parametrize(
    ("likeness", "level"), [("equal", "debug"), ("recomputed", "info"), ("different", "warning")]
)
def test_only_a_difference_is_a_warning_among_compared_replies(likeness: str, level: str) -> None:
    """Shadow mode compares every reply; a line for each would be as many as there are requests."""
    (line,) = lines(events.ReplyCompared(1, PUBLIC, likeness, 0.5, 9, bytes(32)), level="debug")
    assert line["level"] == level


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("error", {"log_quarantined", "alert_raised"}),
        (
            "warning",
            {
                "log_quarantined",
                "alert_raised",
                "request_closed",
                "reply_returned",
                "reply_compared",
                "reply_unmatched",
                "reply_missing",
                "requests_moved",
                "chain_reorganised",
                "unknown_requests_heard",
                "answer_mismatch",
                "foreign_transaction",
                "attestation_mismatch",
                "ciphertext_mismatch",
            },
        ),
    ],
)
def test_only_events_of_the_level_are_logged(level: str, expected: set[str]) -> None:
    assert {line["event"] for line in lines(*EACH, level=level)} == expected


@pytest.mark.parametrize(
    ("state", "level"), [(State.DONE, "info"), (State.ABORTED, "info"), (State.REJECTED, "warning")]
)
def test_what_ended_as_it_should_is_no_warning(state: State, level: str) -> None:
    (line,) = lines(events.RequestClosed(1, Kind.ABORT_KEYGEN, state, "done"))
    assert line["level"] == level


def test_a_critical_alert_is_an_error_and_a_warning_a_warning() -> None:
    found = lines(*(events.AlertRaised("a", "c", "x", severity) for severity in events.Severity))
    assert [line["level"] for line in found] == ["error", "warning"]


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        (
            "no answer from https://user:hunter2@node:8545/?key=hunter2 (refused)",
            "no answer from https://node:8545 (refused)",
        ),
        ("gateway: http://127.0.0.1:9: refused", "gateway: http://127.0.0.1:9: refused"),
        ("tried wss://node/x?hunter2, https://[::1]:8545/a.", "tried wss://node/x, https://[::1]:8545/a."),
        ("nothing to cut", "nothing to cut"),
    ],
)
def test_user_info_and_query_of_a_url_in_a_reason_are_cut(reason: str, shown: str) -> None:
    (line,) = lines(events.AlertRaised("gateway", "unreachable", reason, events.Severity.WARNING))
    assert line["text"] == shown


def test_a_console_line_is_for_people() -> None:
    stream = io.StringIO()
    EventTakers(line_takes(LineLog(stream, "info", LogFormat.CONSOLE))).on_event(
        events.AlertCleared("gateway", "unreachable")
    )
    assert "alert_cleared" in stream.getvalue()
    assert "dependency=gateway" in stream.getvalue()


def test_auto_is_json_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    LineLog(stream, "info", LogFormat.AUTO).info("started")
    assert json.loads(stream.getvalue())["event"] == "started"


def test_a_stream_that_fails_does_not_raise() -> None:
    """Logging must not end the connector."""
    stream = io.StringIO()
    log = LineLog(stream, "info", LogFormat.JSON)
    stream.close()
    log.info("x")
    assert log.lost == 1


def test_what_libraries_log_is_logged_under_their_name() -> None:
    stream = io.StringIO()
    handler = LibraryLogs(LineLog(stream, "info", LogFormat.JSON).log)
    handler.emit(logging.LogRecord("h2", logging.WARNING, "", 0, "odd %s", ("frame",), None))
    line = json.loads(stream.getvalue())
    assert (line["library"], line["message"], line["level"]) == ("h2", "odd frame", "warning")


def test_the_traceback_of_a_library_is_one_text_without_what_its_urls_hide() -> None:
    stream = io.StringIO()
    try:
        raise ValueError("odd", "https://user:hunter2@node/")
    except ValueError as error:
        record = logging.LogRecord(
            "h2", logging.ERROR, "", 0, "failed", (), (type(error), error, error.__traceback__)
        )
    LibraryLogs(LineLog(stream, "info", LogFormat.JSON).log).emit(record)
    assert "ValueError: ('odd', 'https://node" in json.loads(stream.getvalue())["exception"]
    assert "hunter2" not in stream.getvalue()


def test_of_credentials_that_the_sdk_could_not_renew_the_kind_of_error_is_logged_and_no_traceback() -> None:
    """The error itself comes out of the call, and an alert says what to do."""
    stream = io.StringIO()
    try:
        raise FileNotFoundError("a token")
    except FileNotFoundError as error:
        known = (type(error), error, error.__traceback__)
        record = logging.LogRecord("aiobotocore.credentials", logging.WARNING, "", 0, "failed.", (), known)
    LibraryLogs(LineLog(stream, "info", LogFormat.JSON).log).emit(record)
    line = json.loads(stream.getvalue())
    assert (line["message"], "exception" in line) == ("failed. FileNotFoundError", False)


def test_a_request_over_http_has_no_place_on_a_chain() -> None:
    (line,) = lines(events.RequestRecorded(1, Kind.HTTP_PUBLIC_DECRYPTION, 7, 10901, NO_BLOCK, b"", 0))
    assert line.keys() == {"event", "level", "timestamp", "rid", "kind", "id"}


@pytest.mark.parametrize(
    ("kind", "state", "level"),
    [
        (Kind.HTTP_USER_DECRYPTION, State.REJECTED, "info"),
        (Kind.HTTP_USER_DECRYPTION, State.EXPIRED, "info"),
        (Kind.HTTP_USER_DECRYPTION, State.QUARANTINED, "warning"),
        (Kind.USER_DECRYPTION, State.REJECTED, "warning"),
    ],
)
def test_what_ends_over_http_warns_of_nothing_that_its_client_brought_about(
    kind: Kind, state: State, level: str
) -> None:
    """A client may ask for what it has no right to, as often as it likes."""
    (line,) = lines(events.RequestClosed(1, kind, state, "no", told=kind is Kind.HTTP_USER_DECRYPTION))
    assert line["level"] == level
