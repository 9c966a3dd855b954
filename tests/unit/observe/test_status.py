"""A connector as one JSON object; alerts and dashboards of metrics that a scrape has, each alert with its page and cause."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import attrs
import pytest

from kmsconn.journal.queries import Counts
from kmsconn.model import events
from kmsconn.model.causes import CAUSES
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.observe import families, gauges
from kmsconn.observe.families import Family, Shape
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.status import Health, HealthReport, parts_of, status_of
from kmsconn.observe.tally import EventTakers
from kmsconn.requests.snapshot import ChainStatistics, CoreStatistics, HttpApiStatistics, JournalStatistics
from tests.queries import kept, named_by_text, readings
from tests.unit.observe.snapshots import CONTRACT, EACH, SNAPSHOT, snapshot
from tools import promql
from tools.alert_meanings import MEANINGS
from tools.gen_monitoring import HEADINGS, between, known_families, rule_tests
from tools.panels import DASHBOARDS
from tools.rules import ALERT_RULES, RECORDING_RULES, RUNBOOK, AlertRule

ROOT = Path(__file__).parents[3]
OF_PROMETHEUS = {"job", "instance"}
QUERIES = (
    *((rule.record, rule.expression, ()) for rule in RECORDING_RULES),
    *((rule.name, rule.expression, (rule.summary,)) for rule in ALERT_RULES),
    *(
        (f"{board.uid}: {panel.title} {number}", query.expression, (query.legend,))
        for board in DASHBOARDS
        for panel in board.panels
        for number, query in enumerate(panel.queries)
    ),
)
RECORDED = {rule.record: {"kind"} for rule in RECORDING_RULES}


def scraped() -> dict[str, set[str]]:
    """Return the labels of every series of a connector to which everything has happened, by the name of the series."""
    monitor = Monitor()
    elsewhere = (
        events.ReplySent(1, Kind.KEYGEN, 9, 0.02, "ethereum"),
        events.ReplyReturned(1, Kind.KEYGEN, State.ANSWERED, "status 0", "ethereum"),
    )
    for event in (*EACH[:-1], *elsewhere):  # the last one of them clears the alert
        monitor.on_event(event)
    monitor.watch(lambda: attrs.evolve(snapshot(), http=HttpApiStatistics(certificate_end=1.8e9)))
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", monitor.metrics().decode(), re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


THERE = scraped() | {"up": set()} | RECORDED


@pytest.mark.parametrize(
    ("expression", "texts"), [one[1:] for one in QUERIES], ids=[one[0] for one in QUERIES]
)
def test_a_query_reads_what_a_scrape_has(expression: str, texts: tuple[str, ...]) -> None:
    found = list(readings(expression))
    assert {one.name for one in found} - THERE.keys() == set()
    for one in found:
        assert one.labels <= THERE[one.name] | OF_PROMETHEUS, one.name
    of_all = OF_PROMETHEUS.union(*(THERE[one.name] for one in found))
    assert kept(expression) | named_by_text(texts) <= of_all


def test_names_are_unique() -> None:
    names = [rule.name for rule in ALERT_RULES]
    assert len(set(names)) == len(names)


# --- causes


def matches(rule: AlertRule, dependency: str, cause: str, number: int) -> bool:
    """Say whether a rule over the connector's own alerts takes one of them."""
    found = re.fullmatch(r"kmsconn_alert(?:\{(.*)\})? (==|>=) (\d)", rule.expression)
    if not found:
        return False
    matchers, comparison, limit = found.groups()
    values = {"dependency": dependency, "cause": cause}
    for label, negated, pattern in re.findall(r'(\w+)(=|!)~"([^"]*)"', matchers or ""):
        if bool(re.fullmatch(pattern, values[label])) is not (negated == "="):
            return False
    return number == int(limit) or (comparison == ">=" and number >= int(limit))


_EXAMPLES = {
    "core[N]": "core[0]",
    "coprocessor 0x…": "coprocessor 0x01",
    "host chain N": "host chain 8009",
    "a chain's name with the URL": "gateway https://node",
    "a chain's name with the contract": "ethereum 0x01",
    "completeness 0x…": "completeness 0x01",
    "txmanager …": "txmanager gateway",
    "an option by its name": "lease",
}


def told() -> Iterator[tuple[str, str, int]]:
    """Yield each alert that the connector may raise: dependency, cause, and the value of its series."""
    for cause, one in MEANINGS.items():
        for dependency in one.dependency.split(", "):
            yield from ((_EXAMPLES.get(dependency, dependency), cause, number) for number in (1, 2))


@pytest.mark.parametrize(("dependency", "cause", "number"), list(told()))
def test_every_alert_of_the_connector_is_told_by_one_rule(dependency: str, cause: str, number: int) -> None:
    """That requests are missing is told by their number."""
    found = [rule.name for rule in ALERT_RULES if matches(rule, dependency, cause, number)]
    by_number = cause == "missing-requests" and number == 2
    assert len(found) == (0 if by_number else 1), found


def test_every_cause_is_explained_by_a_page() -> None:
    assert {cause for rule in ALERT_RULES for cause in rule.causes} == CAUSES.keys()
    assert [*MEANINGS] == [*CAUSES]


# --- the runbook, and what is generated


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    assert {f"{RUNBOOK}/{page.name}" for page in (ROOT / RUNBOOK).glob("*")} == {
        one.runbook for one in ALERT_RULES
    }


@pytest.mark.parametrize("rule", ALERT_RULES, ids=lambda rule: rule.name)
def test_a_page_says_what_it_means_what_it_costs_how_to_probe_and_what_to_do(rule: AlertRule) -> None:
    _, *parts = (ROOT / rule.runbook).read_text(encoding="utf-8").split("\n## ")
    assert tuple(part.partition("\n")[0] for part in parts) == HEADINGS
    assert [part for part in parts if len(part.split()) < 3 or "\n…\n" in part] == []


@pytest.mark.parametrize("rule", ALERT_RULES, ids=lambda rule: rule.name)
def test_every_alert_has_a_scene_in_which_it_is_firing(rule: AlertRule) -> None:
    assert f'alertname=\\"{rule.name}\\"' in rule_tests()


def test_a_page_without_a_place_for_what_is_printed_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks <!-- printed"):
        between("# Alerts\n", "")


# --- selectors


def test_a_selector_is_of_labels_and_buckets_that_there_are() -> None:
    with pytest.raises(ValueError, match="kmsconn_gaps has no label chain"):
        promql.select(gauges.GAPS, 'chain="gateway"')
    with pytest.raises(ValueError, match="has no bucket that ends at 7 s"):
        promql.within(families.INCLUSION_SECONDS, 7)
    with pytest.raises(ValueError, match="kmsconn_gaps is no histogram"):
        promql.buckets(gauges.GAPS)


@pytest.mark.parametrize("family", [one for one in known_families() if one.shape is Shape.HISTOGRAM])
def test_the_limits_of_buckets_are_written_as_a_scrape_has_them(family: Family) -> None:
    text = Monitor().metrics().decode()
    for limit, name in product(family.buckets, [family.name]):
        assert f"{name}_bucket{{" in text
        assert promql.within(family, limit).split("{")[1].rstrip("}") in text


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


def test_whose_replies_another_process_sends_are_not_told_to_wait() -> None:
    members = [attrs.evolve(SNAPSHOT.journal.members[0], leases=leases) for leases in ((), ("sends 1 0x",))]
    shown = []
    for journal in (JournalStatistics(), *(JournalStatistics(None, (one,), one.token) for one in members)):
        monitor = watching(journal=journal)
        monitor.on_event(events.AnswerKept(1, PUBLIC, 0.8))
        shown.append(len(status_of(monitor)["oldest"]))
    assert shown == [1, 0, 1]


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
    assert shown["cores"] == {"core[0]": {"serving": False, "text": "refused"}}
    [manager] = shown["transactions"].values()
    assert (manager["balance"], manager["replies_left"], manager["next_nonce"]) == (str(3 * 10**18), 3000, 41)
    assert shown["http"] is None
    served = status_of(watching(http=HttpApiStatistics(waiting=3, places=1000, connections=7)))["http"]
    assert (served["waiting"], served["places"], served["connections"]) == (3, 1000, 7)


def test_the_page_shows_what_the_command_shows() -> None:
    shown, parts = status_of(watching()), parts_of(snapshot())
    assert {name: shown[name] for name in parts} == parts
    [one] = parts["transactions"].values()
    assert (one["balance"], one["fee"], one["priority"]) == (str(3 * 10**18), str(10**9), None)


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


def test_the_causes_that_leave_a_process_ready() -> None:
    """They are about other processes, or about an upgrade of the network; a lease that is late is none: its health depends on it."""
    found = {name for name, cause in CAUSES.items() if cause.leaves_ready}
    assert found == {"role-missing", "settings-differ", "member-fenced", "newer-contract"}


def test_a_newer_contract_is_critical_and_leaves_the_process_in_its_service() -> None:
    """All nodes of a network tell it in the minute of an upgrade: unready, none would serve, and no roll-out would end."""
    text = "version 0.4.0, and 0.3 is the newest known here"
    newer = AlertRaised("ethereum 0x01", "newer-contract", text, Severity.CRITICAL, "upgrade kmsconn")
    found = report(newer)
    assert (found.healthy, found.alerts, found.details) == (True, (newer,), f"ethereum 0x01: {text}")
    assert not report(newer, critical("gateway", "x")).healthy


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
