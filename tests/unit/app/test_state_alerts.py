"""What alerts say of a verdict, and how often they say it."""

from __future__ import annotations

import attrs

from kmsconn.app.failure_tracker import FailureVerdict
from kmsconn.app.state_alerts import UPDATE, StateAlerts, alert_of
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity

VERDICT = FailureVerdict("core[0]", "wrong-signer", "signed by 0xab", "", 5, ("public_decryption",), ())
ALERT = alert_of(VERDICT)


def test_a_verdict_on_requests_is_a_warning_that_counts_them() -> None:
    assert ALERT.severity is Severity.WARNING
    assert ALERT.text == "5 requests wait: signed by 0xab"
    assert ALERT.count == 5
    assert "registered key" in ALERT.remedy


def test_a_kind_that_cannot_pass_is_critical() -> None:
    found = alert_of(attrs.evolve(VERDICT, blocked=("public_decryption", "user_decryption")))
    assert found.critical
    assert found.text == "no public_decryption and no user_decryption passes; 5 requests wait: signed by 0xab"


def test_the_remedy_of_the_error_goes_before_the_usual_one() -> None:
    assert alert_of(attrs.evolve(VERDICT, remedy="restart that Core")).remedy == "restart that Core"


def test_what_goes_is_cleared_and_what_comes_is_raised() -> None:
    seen: list[Event] = []
    board = StateAlerts(seen.append)
    board.show([ALERT], 0.0)
    board.show([], 1.0)
    board.show([ALERT], 2.0)
    assert seen == [ALERT, AlertCleared("core[0]", "wrong-signer"), ALERT]


def test_a_count_is_said_again_after_a_minute_and_a_severity_at_once() -> None:
    seen: list[Event] = []
    board = StateAlerts(seen.append)
    for second in range(int(UPDATE) + 2):
        board.show([attrs.evolve(ALERT, count=second)], float(second))
    assert [event.count for event in seen if isinstance(event, AlertRaised)] == [0, int(UPDATE)]
    board.show([attrs.evolve(ALERT, severity=Severity.CRITICAL)], UPDATE + 2)
    assert isinstance(seen[-1], AlertRaised)
    assert seen[-1].critical
