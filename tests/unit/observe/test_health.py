"""Health is decided from events and statistics."""

from __future__ import annotations

import pytest

from kmsconn.model.causes import CAUSES, is_about_others
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity
from kmsconn.observe.health import Health, HealthReport


def critical(dependency: str, text: str, cause: str = "unreachable") -> AlertRaised:
    return AlertRaised(dependency, cause, text, Severity.CRITICAL)


def warning(dependency: str, text: str, cause: str = "unreachable") -> AlertRaised:
    return AlertRaised(dependency, cause, text, Severity.WARNING)


def report(*seen: Event, ready: bool = True, draining: bool = False) -> HealthReport:
    health = Health()
    for event in seen:
        health.on_event(event)
    return health.report(ready=ready, draining=draining)


def test_a_ready_connector_without_alerts_is_healthy() -> None:
    assert report() == HealthReport(True, True, True, True, True, "", True, False, ())


def test_before_it_is_ready_it_is_not_healthy_and_says_so() -> None:
    found = report(ready=False)
    assert not found.healthy
    assert "not ready" in found.details


def test_a_critical_alert_makes_it_unhealthy() -> None:
    found = report(critical("txmanager gateway", "0 wei"))
    assert not found.healthy
    assert found.details == "txmanager gateway: 0 wei"


def test_a_warning_is_named_and_leaves_it_healthy() -> None:
    found = report(warning("bucket a", "slow"))
    assert found.healthy
    assert found.details == "bucket a: slow"


def test_a_critical_alert_about_other_processes_is_named_and_leaves_it_healthy() -> None:
    """Every process that is left tells it: a restart of one that works would not bring the role back."""
    found = report(critical("role send", "nobody sends the replies", "role-missing"))
    assert found.healthy
    assert found.details == "role send: nobody sends the replies"
    assert found.alerts[0].critical


def test_it_hides_no_critical_alert_of_the_process_itself() -> None:
    found = report(critical("role send", "nobody", "role-missing"), critical("journal", "full", "unwritable"))
    assert not found.healthy


def test_the_causes_that_are_about_other_processes() -> None:
    """An alert about the process itself, such as a lease that is late, is none of them: its health depends on it."""
    found = {cause for cause in CAUSES if is_about_others(cause)}
    assert found == {"role-missing", "settings-differ", "member-fenced"}


def test_a_cleared_alert_is_forgotten() -> None:
    assert report(critical("gateway", "x"), AlertCleared("gateway", "unreachable")).healthy


def test_an_alert_that_changes_replaces_the_former() -> None:
    assert report(critical("gateway", "x"), warning("gateway", "y")).details == "gateway: y"


def test_two_causes_of_a_dependency_are_two_alerts() -> None:
    """A warning of one cause hides no critical alert of another, and its end does not end that."""
    found = report(
        critical("core[0]", "x", "signer"), warning("core[0]", "y", "slow"), AlertCleared("core[0]", "slow")
    )
    assert (found.healthy, found.details) == (False, "core[0]: x")


def test_critical_alerts_come_first() -> None:
    assert report(warning("a", "1"), critical("b", "2")).details == "b: 2; a: 1"


def test_readiness_is_latched() -> None:
    """A dependency lost later is an alert of its own; what was ready once does not fall back to starting."""
    health = Health()
    health.report(ready=True, draining=False)
    assert health.report(ready=False, draining=False).ready


def test_while_draining_it_is_not_healthy() -> None:
    found = report(draining=True)
    assert not found.healthy
    assert found.details == "draining"


@pytest.mark.parametrize(
    ("dependency", "field"),
    [
        ("journal", "database_connected"),
        ("gateway", "gateway_connected"),
        ("ethereum", "ethereum_connected"),
        ("core", "kms_core_connected"),
        ("core[1]", "kms_core_connected"),
    ],
)
def test_an_alert_takes_the_flag_of_its_dependency(dependency: str, field: str) -> None:
    flags = ("database_connected", "gateway_connected", "ethereum_connected", "kms_core_connected")
    assert report(warning(dependency, "x")).kms_core_connected  # one of several
    found = report(critical(dependency, "x"))
    assert {flag for flag in flags if not getattr(found, flag)} == {field}
