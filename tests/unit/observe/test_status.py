"""A connector as one JSON object."""

from __future__ import annotations

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


def test_before_the_connector_runs_it_is_starting_and_has_every_part() -> None:
    before, monitor = status_of(Monitor()), Monitor()
    monitor.watch(snapshot)
    assert before["state"] == "starting"
    assert before.keys() == status_of(monitor).keys()


def test_the_state_is_that_of_health() -> None:
    monitor = Monitor()
    monitor.watch(snapshot)
    assert status_of(monitor)["state"] == "healthy"
    monitor.on_event(events.AlertRaised("gateway", "unreachable", "refused", events.Severity.CRITICAL))
    assert status_of(monitor)["state"] == "unhealthy"
    monitor.watch(lambda: snapshot(draining=True))
    assert status_of(monitor)["state"] == "draining"


def test_an_alert_has_its_remedy() -> None:
    monitor = Monitor()
    monitor.on_event(events.AlertRaised("gateway", "unreachable", "refused", events.Severity.CRITICAL))
    [alert] = status_of(monitor)["alerts"]
    assert (alert["dependency"], alert["severity"]) == ("gateway", "critical")
    assert alert["remedy"].startswith("check that it runs")


def test_every_open_request_is_in_one_place_of_the_flow() -> None:
    counts = Counts(
        states={(PUBLIC, State.PENDING): 10, (PUBLIC, State.ANSWERED): 1, (PUBLIC, State.SIGNED): 2, (PUBLIC, State.INCLUDED): 3},
        deferred={PUBLIC: 4},
        oldest={},
        off_chain=0,
        quarantined_logs=0,
    )  # fmt: skip
    queue = attrs.evolve(SNAPSHOT.queue, counts=counts, running={"gather": 2, "answer": 1})
    monitor = Monitor()
    monitor.watch(lambda: snapshot(queue=queue))
    assert status_of(monitor)["flow"] == {
        "waiting": 3, "deferred": 4, "check": 0, "gather": 2, "submit": 0, "answer": 1,
        "answered": 1, "signed": 2, "included": 3, "finalized": 0,
    }  # fmt: skip


def test_a_contract_is_named_with_its_chain_and_lag() -> None:
    monitor = Monitor()
    monitor.watch(lambda: snapshot(chains={"gateway": ChainStatistics(55, chain_id=10901)}))
    monitor.on_event(events.CursorMoved(10901, CONTRACT, 50, 55))
    [contract] = status_of(monitor)["contracts"]
    assert (contract["chain"], contract["lag"]) == ("gateway", 6)


def test_a_core_says_what_is_wrong_with_it() -> None:
    monitor = Monitor()
    monitor.watch(lambda: snapshot(cores={"core[0]": CoreStatistics(False, "refused")}))
    assert status_of(monitor)["cores"] == [{"name": "core[0]", "serving": False, "text": "refused"}]


def test_the_balance_is_in_ether_and_in_replies() -> None:
    monitor = Monitor()
    monitor.watch(snapshot)
    [manager] = status_of(monitor)["transactions"]
    assert (manager["balance"], manager["replies_left"], manager["next_nonce"]) == (3.0, 3000, 41)


def test_clients_over_http_are_shown_where_any_are_served() -> None:
    monitor = Monitor()
    monitor.watch(snapshot)
    assert status_of(monitor)["http"] is None
    monitor.watch(lambda: snapshot(http=HttpApiStatistics(waiting=3, places=1000, connections=7)))
    shown = status_of(monitor)["http"]
    assert (shown["waiting"], shown["places"], shown["connections"]) == (3, 1000, 7)


def test_the_page_shows_what_the_command_shows_with_the_balance_in_ether() -> None:
    monitor = Monitor()
    monitor.watch(snapshot)
    shown, parts = status_of(monitor), parts_of(snapshot())
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
    found = {name for name, cause in CAUSES.items() if cause.about_others}
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
