"""The documentation of metrics is printed from the one table in the code, and everything that is scraped stands in it."""

from __future__ import annotations

import re
from pathlib import Path

from kmsconn.observe.monitor import Monitor
from tests.unit.observe.snapshots import EACH, snapshot
from tools.metrics_reference import known_families, reference

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference()


def test_every_series_that_is_scraped_is_documented() -> None:
    monitor = Monitor()
    for event in EACH:
        monitor.on_event(event)
    monitor.watch(snapshot)
    scraped = set(re.findall(r"^(\w+)[{ ]", monitor.metrics().decode(), re.MULTILINE))
    families = {one.name for one in known_families()}
    assert {
        name for name in scraped - families if re.sub("_(bucket|sum|count)$", "", name) not in families
    } == set()
