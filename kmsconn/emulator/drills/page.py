"""Writes the tables of docs/drills.md from those of this package: ``python -m kmsconn.emulator.drills.page docs``. Drills nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kmsconn.emulator.drills.active import DRILLS
from kmsconn.emulator.drills.drill import Drill, Target
from kmsconn.emulator.drills.shown import SHOWN, Shown

BEGIN: Final = "<!-- made by kmsconn.emulator.drills.page: begin -->"
END: Final = "<!-- end -->"
_LONGEST = 110  # characters of an order that a row shows


def tables() -> str:
    """Return one table for each kind of target, and one of what the connector shows."""
    return "\n".join([*(line for target in Target for line in _table(target)), *_shown()])


def _table(target: Target) -> Iterator[str]:
    drills = [drill for drill in DRILLS if drill.target is target]
    if not drills:
        return
    yield f"## `/{{{target}}}/…`"
    yield ""
    yield "| fault | body | what happens | what the connector does |"
    yield "|---|---|---|---|"
    yield from (_row(drill) for drill in drills)
    yield ""


def _shown() -> Iterator[str]:
    yield "## Alerts during the drills"
    yield ""
    yield "Users make four requests when the drill starts (later by *asked*). The table shows the alerts after the given seconds and the"
    yield "status of `/healthz`; `/liveness` answers 200. Unless marked ¹, all requests are answered after the end of the drill, and no"
    yield "alert is left. `tests/faults/test_drills.py` runs each row."
    yield ""
    yield "| order | asked | seconds | alerts | `/healthz` | requests |"
    yield "|---|---|---|---|---|---|"
    yield from (_shown_row(row) for row in SHOWN)
    yield ""


def _shown_row(row: Shown) -> str:
    order = row.order if len(row.order) <= _LONGEST else f"{row.order[:_LONGEST]}…"
    alerts = "<br>".join(one.words for one in row.alerts) or "–"
    asked = "before" if row.pending else f"{row.lead:g} s" if row.lead else ""
    requests = ("wait" if row.waits else "answered") + ("" if row.ends else " ¹")
    return f"| `{order}` | {asked} | {row.after:g} | {_cell(alerts)} | {row.health} | {requests} |"


def _row(drill: type[Drill]) -> str:
    body = "<br>".join(f"`{name}`: {words}" for name, words in drill.fields().items()) or "–"
    return f"| `{drill.name}` | {body} | {_cell(drill.does())} | {_cell(drill.connector())} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def renewed(page: str) -> str:
    """Return the page with fresh tables between its marks. Raises ValueError if the page lacks a mark."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    place = Path(sys.argv[1]) / "drills.md"
    place.write_text(renewed(place.read_text(encoding="utf-8")), encoding="utf-8")
