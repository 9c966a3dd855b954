"""The table of all metrics, printed for the documentation: ``python -m tools.metrics_reference docs/reference/metrics.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kmsconn.observe import families, gauges
from kmsconn.observe.families import FROM_THE_START, Family

_HEAD: Final = """# Metrics

This page lists the metrics of `/metrics` and of `Monitor.collector` for embedding programs. It is printed from the code by
`python -m tools.metrics_reference docs/reference/metrics.md`; a test compares both. The names that begin with `kms_connector_` are
those of the 0.14 services that still have a meaning. Series marked with 0 exist from the first scrape on; of histograms, and of counters
by stage or state, those of decryptions do. The [alerts](../alerts.md) are made of these metrics.

| name | type | labels | unit | from 0 | meaning |
|---|---|---|---|---|---|
"""


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
        yield f"| `{one.name}` | {one.shape} | {labels} | {one.unit} | {'0' if one in FROM_THE_START else ''} | {one.doc} |\n"


def reference() -> str:
    """Return the whole page."""
    return _HEAD + "".join(_rows())


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
