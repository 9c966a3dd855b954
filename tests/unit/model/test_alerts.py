"""An alert is raised once for each dependency and cause, and cleared by its own key alone."""

from __future__ import annotations

import pytest

from kmsconn.model.alerts import Alerts
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity


@pytest.fixture
def seen() -> list[Event]:
    return []


@pytest.fixture
def alerts(seen: list[Event]) -> Alerts:
    return Alerts(seen.append)


def test_the_same_alert_is_raised_once(alerts: Alerts, seen: list[Event]) -> None:
    alerts.raise_("core[0]", "unreachable", "refused")
    alerts.raise_("core[0]", "unreachable", "refused")
    assert seen == [AlertRaised("core[0]", "unreachable", "refused", Severity.WARNING)]


def test_it_is_raised_again_when_it_says_something_else(alerts: Alerts, seen: list[Event]) -> None:
    alerts.raise_("core[0]", "unreachable", "refused", count=1)
    alerts.raise_("core[0]", "unreachable", "refused", count=2)
    assert [event.count for event in seen if isinstance(event, AlertRaised)] == [1, 2]


def test_another_cause_is_another_alert(alerts: Alerts, seen: list[Event]) -> None:
    alerts.raise_("core[0]", "unreachable", "refused")
    alerts.raise_("core[0]", "wrong-signer", "0xab signs")
    alerts.clear("core[0]", "unreachable")
    assert [alert.cause for alert in alerts] == ["wrong-signer"]


def test_the_end_is_said_once_and_only_of_what_was_raised(alerts: Alerts, seen: list[Event]) -> None:
    alerts.clear("gateway", "unreachable")
    alerts.raise_("gateway", "unreachable", "refused")
    alerts.clear("gateway", "unreachable")
    alerts.clear("gateway", "unreachable")
    assert seen[1:] == [AlertCleared("gateway", "unreachable")]
    assert ("gateway", "unreachable") not in alerts


def test_put_clears_where_there_is_nothing_to_say(alerts: Alerts, seen: list[Event]) -> None:
    alerts.put("journal", "unwritable", "disk is full", Severity.CRITICAL)
    alerts.put("journal", "unwritable", "", Severity.CRITICAL)
    assert [type(event) for event in seen] == [AlertRaised, AlertCleared]
