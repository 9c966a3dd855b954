"""Every query of the alert rules and dashboards reads what a scrape of a live process has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx2
import trio

from tests.e2e.test_process import Scene, scene
from tests.queries import Reading, readings
from tools.panels import DASHBOARDS
from tools.rules import ALERT_RULES, RECORDING_RULES

OF_PROMETHEUS = {"job", "instance"}
RECORDED = {"up", *(rule.record for rule in RECORDING_RULES)}
NOT_YET = {
    "kmsconn_logs_quarantined_total": "no log of these is undecodable",
    "kmsconn_reorganisations_total": "their chain has one branch",
    "kmsconn_reorganisation_depth_blocks": "their chain has one branch",
    "kmsconn_reorganised_total": "their chain has one branch",
    "kmsconn_replies_returned_total": "their load has no key management",
    "kmsconn_replies_sent_total": "their load has no key management",
    "kmsconn_http_waiting": "nothing is served over HTTP",
    "kmsconn_http_connections": "nothing is served over HTTP",
    "kmsconn_http_certificate_end_timestamp_seconds": "nothing is served over HTTP",
}
"""Families that come with their first event, and why it does not come here; ``unit/observe/test_rules.py`` has all of them."""


def queries() -> list[Reading]:
    expressions = [
        *(rule.expression for rule in RECORDING_RULES),
        *(rule.expression for rule in ALERT_RULES),
        *(query.expression for board in DASHBOARDS for panel in board.panels for query in panel.queries),
    ]
    return [one for expression in expressions for one in readings(expression) if one.name not in RECORDED]


async def scraped(running: Scene) -> str:
    """Return what one scrape of the connector says."""
    lines = (running.logs / "run-1.log").read_text().splitlines()
    [url] = [one["monitoring"] for one in map(json.loads, lines) if one["event"] == "started"]
    async with httpx2.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{url}/metrics")).text


async def test_every_query_reads_names_and_labels_of_live_scrapes(tmp_path: Path) -> None:
    """Two scrapes: one under a load, and one after its dependencies have gone, which has alerts."""
    async with scene(tmp_path) as running, running.connector():
        await running.is_included()
        text = await scraped(running)
        running.emulator.kill()
        while "\nkmsconn_alert{" not in text or "\nkmsconn_alerts_total{" not in text:
            await trio.sleep(0.2)
            text += "\n" + await scraped(running)
    there: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", text, re.MULTILINE):
        there.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    assert {one.name for one in queries()} - there.keys() == NOT_YET.keys()
    unknown = [
        (one.name, one.labels - there[one.name] - OF_PROMETHEUS) for one in queries() if one.name in there
    ]
    assert [one for one in unknown if one[1]] == []
