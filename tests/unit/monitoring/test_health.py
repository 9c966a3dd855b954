"""Health is decided from events and statistics."""

from __future__ import annotations

import pytest

from kmsconn.model.events import Event, Recovered, Trouble
from kmsconn.monitoring.health import Health, Report


def report(*seen: Event, ready: bool = True, draining: bool = False) -> Report:
    health = Health()
    for event in seen:
        health.on_event(event)
    return health.report(ready=ready, draining=draining)


def test_a_ready_connector_without_trouble_is_healthy() -> None:
    assert report() == Report(True, True, True, True, True, "", True, False, ())


def test_before_it_is_ready_it_is_not_healthy_and_says_so() -> None:
    found = report(ready=False)
    assert not found.healthy
    assert "not ready" in found.details


def test_a_red_trouble_makes_it_unhealthy() -> None:
    found = report(Trouble("funds", "0 wei", red=True))
    assert not found.healthy
    assert found.details == "funds: 0 wei"


def test_a_yellow_trouble_is_named_and_leaves_it_healthy() -> None:
    found = report(Trouble("bucket a", "slow"))
    assert found.healthy
    assert found.details == "bucket a: slow"


def test_a_recovered_neighbour_is_forgotten() -> None:
    assert report(Trouble("gateway", "x", red=True), Recovered("gateway")).healthy


def test_a_trouble_that_changes_replaces_the_former() -> None:
    assert report(Trouble("gateway", "x", red=True), Trouble("gateway", "y")).details == "gateway: y"


def test_red_troubles_come_first() -> None:
    assert report(Trouble("a", "1"), Trouble("b", "2", red=True)).details == "b: 2; a: 1"


def test_readiness_is_latched() -> None:
    """A neighbour lost later is a trouble of its own; what was ready once does not fall back to starting."""
    health = Health()
    health.report(ready=True, draining=False)
    assert health.report(ready=False, draining=False).ready


def test_while_draining_it_is_not_healthy() -> None:
    found = report(draining=True)
    assert not found.healthy
    assert found.details == "draining"


@pytest.mark.parametrize(
    ("neighbour", "field"),
    [
        ("journal", "database_connected"),
        ("gateway", "gateway_connected"),
        ("ethereum", "ethereum_connected"),
        ("core", "kms_core_connected"),
        ("core[1]", "kms_core_connected"),
    ],
)
def test_a_trouble_takes_the_flag_of_its_neighbour(neighbour: str, field: str) -> None:
    flags = ("database_connected", "gateway_connected", "ethereum_connected", "kms_core_connected")
    found = report(Trouble(neighbour, "x"))
    assert {flag for flag in flags if not getattr(found, flag)} == {field}
