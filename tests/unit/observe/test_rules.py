"""Alerts and dashboards are of metrics that a scrape has, every alert has its page, and every cause its alert."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import attrs
import pytest

from kmsconn.model import events
from kmsconn.model.causes import CAUSES
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.observe import families, gauges
from kmsconn.observe.families import Family, Shape
from kmsconn.observe.monitor import Monitor
from kmsconn.requests.snapshot import HttpApiStatistics
from tests.queries import kept, named_by_text, readings
from tests.unit.observe.snapshots import EACH, snapshot
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
