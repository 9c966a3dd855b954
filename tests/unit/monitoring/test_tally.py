"""Events become numbers."""

from __future__ import annotations

from typing import get_args

import pytest

from kmsconn.model import events
from kmsconn.model.life import State
from kmsconn.monitoring import families
from kmsconn.monitoring.tally import COUNTING, Histogram, Tally
from tests.unit.monitoring.snapshots import CONTRACT, EACH, PUBLIC


def tallied(*seen: events.Event) -> Tally:
    tally = Tally()
    for event in seen:
        tally.on_event(event)
    return tally


def test_every_event_is_counted_or_left_out_on_purpose() -> None:
    assert COUNTING.keys() == set(get_args(events.Event))


def test_the_sample_events_are_one_of_each() -> None:
    assert {type(event) for event in EACH} == set(get_args(events.Event))


@pytest.mark.parametrize(
    ("family", "labels", "value"),
    [
        (families.RECEIVED, ("public_decryption_request",), 1),
        (families.REORGANISED, ("10901", "back"), 2),
        (families.LOGS_QUARANTINED, ("10901",), 1),
        (families.CURSOR, ("10901", "0x0000000000000000000000000000000000000005"), 50),
        (families.HEAD, ("10901", "0x0000000000000000000000000000000000000005"), 55),
        (families.LAG, ("10901", "0x0000000000000000000000000000000000000005"), 6),
        (families.PICKED, ("public_decryption_request",), 1),
        (families.PARKED, ("public_decryption", "submit"), 1),
        (families.SUBMIT_ERRORS, ("public_decryption_request",), 1),
        (families.CLOSED, ("user_decryption", "rejected"), 1),
        (families.RESPONSES, ("public_decryption_response",), 1),
        (families.SENT, ("public_decryption_response",), 1),
        (families.BURIED, ("public_decryption",), 1),
        (families.SEND_ERRORS, ("public_decryption_response",), 1),
        (families.TROUBLES, ("gateway",), 1),
        (families.LISTENING_ERRORS, ("decryption",), 1),
    ],
)
def test_an_event_moves_its_number(family: families.Family, labels: tuple[str, ...], value: float) -> None:
    assert tallied(*EACH).families[family][labels] == value


@pytest.mark.parametrize(
    ("family", "labels", "seconds"),
    [
        (families.STAGE_SECONDS, ("public_decryption", "check"), 0.03),
        (families.DECRYPTION_LATENCY, ("public_decryption_request",), 0.4),
        (families.HANDOVER_SECONDS, ("public_decryption",), 0.02),
        (families.LANDED_SECONDS, ("public_decryption",), 1.4),
        (families.FORWARDING_LATENCY, ("public_decryption_response",), 1.0),
    ],
)
def test_an_event_is_observed_once(family: families.Family, labels: tuple[str, ...], seconds: float) -> None:
    histogram = tallied(*EACH).families[family][labels]
    assert isinstance(histogram, Histogram)
    assert histogram.sum == pytest.approx(seconds)
    assert dict(histogram.cumulative)["+Inf"] == 1


def test_a_cursor_at_the_head_has_no_lag() -> None:
    tally = tallied(events.CursorMoved(1, CONTRACT, 56, 55))
    assert list(tally.families[families.LAG].values()) == [0]


def test_a_reply_found_in_the_contract_has_no_latency_of_ours() -> None:
    tally = tallied(events.ReplyLanded(1, PUBLIC, 60, 900.0, found=True))
    assert families.LANDED_SECONDS not in tally.families
    assert tally.families[families.FOUND] == {("public_decryption",): 1}


def test_a_request_that_ended_is_forgotten() -> None:
    """Else memory would grow with every request."""
    kept = tallied(events.AnswerKept(1, PUBLIC, 0.4), events.AnswerKept(2, PUBLIC, 0.4))
    kept.on_event(events.ReplyLanded(1, PUBLIC, 60, 1.4))
    kept.on_event(events.RequestClosed(2, PUBLIC, State.REJECTED, ""))
    assert kept.answered == {}


def test_an_observation_on_a_limit_belongs_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 1.5, 9.0):
        histogram.observe(value)
    assert list(histogram.cumulative) == [("1", 1), ("2", 2), ("+Inf", 3)]
