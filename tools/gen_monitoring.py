"""Writes what is generated of the registry of metrics, alerts and dashboards: pages, Prometheus rules with their tests, Grafana JSON.

The runbook's pages have a head that is generated and a body that people write; a new alert gets a page with the headings to fill in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import Any, Final

from kmsconn.model.causes import CAUSES
from kmsconn.observe import families, gauges
from kmsconn.observe.families import FROM_THE_START, Family
from tools.alert_meanings import MEANINGS
from tools.panels import DASHBOARDS, Dashboard, DashboardPanel
from tools.rule_scenes import QUIET, SCENES, RuleScene
from tools.rules import ALERT_RULES, RECORDING_RULES, AlertRule

ROOT = Path(__file__).parents[1]
METRICS = ROOT / "docs" / "reference" / "metrics.md"
INDEX = ROOT / "docs" / "alerts.md"
RULES = ROOT / "deploy" / "prometheus" / "kmsconn.rules.yml"
RULE_TESTS = ROOT / "deploy" / "prometheus" / "kmsconn.rules.test.yml"
OPERATOR_RULES = ROOT / "deploy" / "kustomize" / "base" / "prometheusrule.yaml"
BOARDS = ROOT / "deploy" / "grafana"

WIDTH = 24  # columns of a dashboard

BEGIN, END = "<!-- printed by `make gen` -->\n", "<!-- end of what is printed -->\n"
HEADINGS = ("Meaning", "Impact", "How to probe", "What to do")
_WRITTEN = "".join(f"\n## {heading}\n\n…\n" for heading in HEADINGS)
_NOTE = "# Printed by `make gen` from tools/rules.py; a test says when it is stale.\n"


def between(page: str, printed: str) -> str:
    """Return a page with what is printed in it renewed. Raises ValueError where it has no place for it."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"a page lacks {BEGIN if not begin else END}: {page[:40]!r}")
    return before + BEGIN + printed + END + after


def rule_file() -> str:
    """Return Prometheus' rule file."""
    lines = [_NOTE, "groups:\n", "  - name: kmsconn-objectives\n", "    rules:\n"]
    for one in RECORDING_RULES:
        lines += [f"      - record: {one.record}\n", *_block("expr", one.expression)]
    lines += ["  - name: kmsconn\n", "    rules:\n"]
    for rule in ALERT_RULES:
        lines += _alert(rule)
    return "".join(lines)


_RESOURCE = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: kmsconn
spec:
"""


def operator_rules() -> str:
    """Return the same rules as a resource of the Prometheus operator."""
    return _NOTE + _RESOURCE + indent(rule_file().removeprefix(_NOTE), "  ")


def _block(name: str, text: str) -> Iterator[str]:
    yield f"        {name}: |-\n"
    yield f"          {text}\n"


def _alert(rule: AlertRule) -> Iterator[str]:
    yield f"      - alert: {rule.name}\n"
    yield from _block("expr", rule.expression)
    yield f"        for: {rule.hold}\n"
    yield f"        labels:\n          severity: {rule.severity}\n"
    yield "        annotations:\n"
    for name, text in (("summary", rule.summary), ("remedy", rule.remedy), ("runbook_url", rule.runbook)):
        yield f"          {name}: {_quoted(text)}\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def rule_tests() -> str:
    """Return the unit tests of the rules, as promtool runs them."""
    lines = [_NOTE.replace("tools/rules.py", "tools/rule_scenes.py")]
    lines += ["rule_files: [kmsconn.rules.yml]\n", "evaluation_interval: 1m\n", "tests:\n"]
    for scene in (*QUIET, *SCENES):
        lines += _scene(scene)
    return "".join(lines)


def _scene(scene: RuleScene) -> Iterator[str]:
    yield f"  - name: {_quoted(scene.name)}\n    interval: 1m\n    input_series:\n"
    for series, values in scene.series.items():
        yield f"      - series: {_quoted(series)}\n        values: {_quoted(values)}\n"
    yield "    promql_expr_test:\n"
    for minute, alerts in scene.moments():
        yield f'      - expr: ALERTS{{alertstate="firing"}}\n        eval_time: {minute}m\n'
        yield "        exp_samples:\n" if alerts else "        exp_samples: []\n"
        for labels in alerts:
            yield f"          - labels: {_quoted(f'ALERTS{{{labels}}}')}\n            value: 1\n"


def dashboard(board: Dashboard) -> str:
    """Return a dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for heading, members in board.rows:
        panels.append(
            {
                "type": "row",
                "title": heading,
                "id": len(panels) + 1,
                "collapsed": False,
                "panels": [],
                "gridPos": _place(0, y, WIDTH, 1),
            }
        )
        y += 1
        x = height = 0
        for one in members:
            width, tall = (4, 4) if one.single else (8, 8)
            if x + width > WIDTH:
                x, y, height = 0, y + height, 0
            panels.append(_panel(one, len(panels) + 1, _place(x, y, width, tall)))
            x, height = x + width, max(height, tall)
        y += height
    return json.dumps(_board(board, panels), indent=1, ensure_ascii=False) + "\n"


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(one: DashboardPanel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "stat" if one.single else "timeseries",
        "title": one.title,
        "id": number,
        "gridPos": place,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": one.unit}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "expr": query.expression,
                "legendFormat": query.legend,
                "datasource": _SOURCE,
            }
            for index, query in enumerate(one.queries)
        ],
    }


_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_INSTANCES = 'label_values(up{job="kmsconn"}, instance)'
_VARIABLES = [
    {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
    {
        "name": "instance",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": _INSTANCES, "refId": "instances"},
        "definition": _INSTANCES,
        "label": "Connector",
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "refresh": 2,
    },
]


def _board(board: Dashboard, panels: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "uid": board.uid,
        "title": board.title,
        "tags": ["kmsconn"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _VARIABLES},
        "links": [
            {
                "type": "dashboards",
                "tags": ["kmsconn"],
                "title": "kmsconn",
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "panels": panels,
    }


def head(rule: AlertRule) -> str:
    """Return the head of a runbook page: what the registry says of an alert."""
    lines = [
        f"> {_plain(rule.summary)}\n\n",
        f"Severity **{rule.severity}**, raised once it has held for {rule.hold}. In short: {rule.remedy}.\n\n",
        f"```promql\n{rule.expression}\n```\n",
    ]
    if rule.causes:
        lines += [
            "\n| cause | dependency | meaning | what to do |\n|---|---|---|---|\n",
            *map(_cause, rule.causes),
        ]
    return "".join(lines)


def _plain(summary: str) -> str:
    """Return a summary as prose: the labels that Prometheus fills in are words."""
    for name in ("instance", "chain", "contract", "kind", "bucket", "dependency", "cause"):
        summary = summary.replace(f"{{{{ $labels.{name} }}}}", f"*{name}*")
    return summary.replace("{{ $value | humanize1024 }}B", "*bytes*").replace("{{ $value }}", "*n*")


def _cause(name: str) -> str:
    told = MEANINGS[name]
    return f"| `{name}` | {told.dependency} | {told.meaning} | {CAUSES[name].remedy} |\n"


def runbook(rule: AlertRule) -> str:
    """Return a runbook page with its head renewed; one that is not there yet has headings to fill in."""
    page = ROOT / rule.runbook
    text = page.read_text(encoding="utf-8") if page.exists() else f"# {rule.name}\n\n{BEGIN}{END}{_WRITTEN}"
    return between(text, head(rule))


def index() -> str:
    """Return the two tables of the index: every alert, and where each cause of the connector is explained."""
    rows = [f"| {_link(one)} | {one.severity} | {_plain(one.summary)} |\n" for one in ALERT_RULES]
    causes = [f"| `{name}` | {told.meaning} | {_links(name)} |\n" for name, told in MEANINGS.items()]
    return "".join((
        "| alert | severity | says |\n|---|---|---|\n", *rows,
        "\n| cause | meaning | page |\n|---|---|---|\n", *causes,
    ))  # fmt: skip


def _link(rule: AlertRule) -> str:
    return f"[{rule.name}](runbook/{rule.name}.md)"


def _links(cause: str) -> str:
    return ", ".join(_link(rule) for rule in ALERT_RULES if cause in rule.causes)


def files() -> dict[Path, str]:
    """Return every file that is generated, with its text."""
    return {
        METRICS: reference(),
        INDEX: between(INDEX.read_text(encoding="utf-8"), index()),
        RULES: rule_file(),
        RULE_TESTS: rule_tests(),
        OPERATOR_RULES: operator_rules(),
        **{BOARDS / f"{board.uid}.json": dashboard(board) for board in DASHBOARDS},
        **{ROOT / rule.runbook: runbook(rule) for rule in ALERT_RULES},
    }


_HEAD: Final = """# Metrics

This page lists the metrics of `/metrics` and of `Monitor.collector` for embedding programs. It is printed from the code by
`make gen`; a test compares both. The names that begin with `kms_connector_` are
those of the 0.14 services that still have a meaning. Series marked with 0 exist from the first scrape on; of histograms, and of counters
by stage or state, those of decryptions do. The [alerts](../alerts.md) are made of these metrics.

| name | type | labels | unit | from 0 | meaning |
|---|---|---|---|---|---|
"""


_UNITS: Final = {
    "_timestamp_seconds": "Unix time",
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_blocks": "blocks",
    "_block": "block number",
    "_eth": "ETH",
    "_ready": "0 or 1",
    "_live": "0 or 1",
    "_healthy": "0 or 1",
    "_draining": "0 or 1",
    "_nonce": "nonce",
}
"""Units by the ends of names, the longest first."""


def unit_of(family: Family) -> str:
    """Return what one of its numbers counts or measures, as its name says it."""
    name = family.name.removesuffix("_total")
    return next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "number")


def known_families() -> tuple[Family, ...]:
    """Return every family, by name."""
    found = {
        one.name: one
        for module in (families, gauges)
        for one in vars(module).values()
        if isinstance(one, Family)
    }
    return tuple(found[name] for name in sorted(found))


def _rows() -> Iterator[str]:
    for one in known_families():
        labels = ", ".join(f"`{label}`" for label in one.labels)
        yield f"| `{one.name}` | {one.shape} | {labels} | {unit_of(one)} | {'0' if one in FROM_THE_START else ''} | {one.doc} |\n"


def reference() -> str:
    """Return the whole page."""
    return _HEAD + "".join(_rows())
