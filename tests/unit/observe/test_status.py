"""A connector as one JSON object."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.journal.values import Counts
from kmsconn.model import events
from kmsconn.model.causes import CAUSES
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.observe.health import Health, HealthReport
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.status import parts_of, status_of
from kmsconn.observe.tally import EventTakers
from kmsconn.requests.snapshot import ChainStatistics, CoreStatistics, HttpApiStatistics
from tests.unit.observe.snapshots import CONTRACT, SNAPSHOT, snapshot

PUBLIC = Kind.PUBLIC_DECRYPTION


def watching(**changes: Any) -> Monitor:
    """Return a monitor of a connector with these statistics."""
    monitor = Monitor()
    monitor.watch(lambda: snapshot(**changes))
    return monitor


def test_before_the_connector_runs_it_is_starting_and_has_every_part() -> None:
    before = status_of(Monitor())
    assert before["state"] == "starting"
    assert before.keys() == status_of(watching()).keys()


def test_the_state_is_that_of_health_and_an_alert_has_its_remedy() -> None:
    monitor = watching()
    assert status_of(monitor)["state"] == "healthy"
    monitor.on_event(events.AlertRaised("gateway", "unreachable", "refused", events.Severity.CRITICAL))
    assert status_of(monitor)["state"] == "unhealthy"
    [alert] = status_of(monitor)["alerts"]
    assert (alert["dependency"], alert["severity"]) == ("gateway", "critical")
    assert alert["remedy"].startswith("check that it runs")
    monitor.watch(lambda: snapshot(draining=True))
    assert status_of(monitor)["state"] == "draining"


def test_every_open_request_is_in_one_place_of_the_flow() -> None:
    counts = Counts(
        states={(PUBLIC, State.PENDING): 10, (PUBLIC, State.ANSWERED): 1, (PUBLIC, State.SIGNED): 2, (PUBLIC, State.INCLUDED): 3},
        deferred={PUBLIC: 4},
        oldest={},
        off_chain=0,
        quarantined_logs=0,
    )  # fmt: skip
    queue = attrs.evolve(SNAPSHOT.queue, counts=counts, running={"gather": 2, "answer": 1})
    assert status_of(watching(queue=queue))["flow"] == {
        "waiting": 3, "deferred": 4, "check": 0, "gather": 2, "submit": 0, "answer": 1,
        "answered": 1, "signed": 2, "included": 3, "finalized": 0,
    }  # fmt: skip


def test_a_contract_is_named_with_its_chain_and_lag() -> None:
    monitor = watching(chains={"gateway": ChainStatistics(55, chain_id=10901)})
    monitor.on_event(events.CursorMoved(10901, CONTRACT, 50, 55))
    [contract] = status_of(monitor)["contracts"]
    assert (contract["chain"], contract["lag"]) == ("gateway", 6)


def test_cores_balance_and_clients_over_http_are_shown() -> None:
    shown = status_of(watching(cores={"core[0]": CoreStatistics(False, "refused")}))
    assert shown["cores"] == [{"name": "core[0]", "serving": False, "text": "refused"}]
    [manager] = shown["transactions"]
    assert (manager["balance"], manager["replies_left"], manager["next_nonce"]) == (3.0, 3000, 41)
    assert shown["http"] is None
    served = status_of(watching(http=HttpApiStatistics(waiting=3, places=1000, connections=7)))["http"]
    assert (served["waiting"], served["places"], served["connections"]) == (3, 1000, 7)


def test_the_page_shows_what_the_command_shows_with_the_balance_in_ether() -> None:
    shown, parts = status_of(watching()), parts_of(snapshot())
    for part in ("chains", "cores", "buckets"):
        assert shown[part] == [{"name": name, **one} for name, one in parts[part].items()]
    [page], [command] = shown["transactions"], parts["transactions"].values()
    assert {name for name, value in command.items() if page[name] != value} == {"balance", "fee"}
    assert (command["balance"], command["fee"], command["priority"]) == (str(3 * 10**18), str(10**9), None)


def critical(dependency: str, text: str, cause: str = "unreachable") -> AlertRaised:
    return AlertRaised(dependency, cause, text, Severity.CRITICAL)


def warning(dependency: str, text: str, cause: str = "unreachable") -> AlertRaised:
    return AlertRaised(dependency, cause, text, Severity.WARNING)


def report(*seen: Event, ready: bool = True, draining: bool = False) -> HealthReport:
    health = Health()
    take = EventTakers(health.takes).on_event
    for event in seen:
        take(event)
    return health.report(ready=ready, draining=draining)


def test_a_ready_connector_without_alerts_is_healthy() -> None:
    assert report() == HealthReport(True, True, True, True, True, "", True, False, ())


ROLE = critical("role send", "nobody sends", "role-missing")

# What was told → whether it is healthy, and the details.
TOLD: dict[str, tuple[list[Event], bool, str]] = {
    "a critical alert": ([critical("txmanager gateway", "0 wei")], False, "txmanager gateway: 0 wei"),
    "a warning": ([warning("bucket a", "slow")], True, "bucket a: slow"),
    # every process that is left tells it: a restart of one that works would not bring the role back
    "a critical alert about other processes": ([ROLE], True, "role send: nobody sends"),
    "which hides none of the process itself": (
        [ROLE, critical("journal", "full", "unwritable")], False, "journal: full; role send: nobody sends",
    ),
    "a cleared alert": ([critical("gateway", "x"), AlertCleared("gateway", "unreachable")], True, ""),
    "an alert that changes": ([critical("gateway", "x"), warning("gateway", "y")], True, "gateway: y"),
    "two causes of a dependency": (
        [critical("core[0]", "x", "signer"), warning("core[0]", "y", "slow"), AlertCleared("core[0]", "slow")],
        False, "core[0]: x",
    ),
    "critical alerts first": ([warning("a", "1"), critical("b", "2")], False, "b: 2; a: 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", TOLD.values(), ids=TOLD)
def test_alerts_say_how_it_is(case: tuple[list[Event], bool, str]) -> None:
    told, healthy, details = case
    found = report(*told)
    assert (found.healthy, found.details) == (healthy, details)
    assert all(alert.critical for alert in found.alerts if alert.dependency.startswith("role"))


def test_before_it_is_ready_and_while_draining_it_is_not_healthy_and_says_so() -> None:
    before, draining = report(ready=False), report(draining=True)
    assert (before.healthy, "not ready" in before.details) == (False, True)
    assert (draining.healthy, draining.details) == (False, "draining")


def test_the_causes_that_are_about_other_processes() -> None:
    """An alert about the process itself, such as a lease that is late, is none of them: its health depends on it."""
    found = {name for name, cause in CAUSES.items() if cause.about_others}
    assert found == {"role-missing", "settings-differ", "member-fenced"}


def test_readiness_is_latched() -> None:
    """A dependency lost later is an alert of its own; what was ready once does not fall back to starting."""
    health = Health()
    health.report(ready=True, draining=False)
    assert health.report(ready=False, draining=False).ready


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
