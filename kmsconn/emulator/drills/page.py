"""Writes the tables of docs/drills.md from the table of drills: ``python -m kmsconn.emulator.drills.page docs``. Drills nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from kmsconn.emulator.drills.drill import Drill, Target
from kmsconn.emulator.drills.table import DRILLS

BEGIN: Final = "<!-- made by kmsconn.emulator.drills.page: begin -->"
END: Final = "<!-- end -->"


def tables() -> str:
    """Return one table for each kind of target."""
    return "\n".join(line for target in Target for line in _table(target))


def _table(target: Target) -> Iterator[str]:
    drills = [drill for drill in DRILLS if drill.target is target]
    if not drills:
        return
    yield f"### `/{{{target}}}/…`"
    yield ""
    yield "| fault | body | what happens | what the connector does |"
    yield "|---|---|---|---|"
    yield from (_row(drill) for drill in drills)
    yield ""


def _row(drill: Drill[Any]) -> str:
    body = "<br>".join(f"`{name}`: {words}" for name, words in drill.fields.items()) or "–"
    return f"| `{drill.name}` | {body} | {_cell(drill.does)} | {_cell(drill.connector)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def renewed(page: str) -> str:
    """Return the page with fresh tables between its marks. Raises ValueError when a mark is missing."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    place = Path(sys.argv[1]) / "drills.md"
    place.write_text(renewed(place.read_text(encoding="utf-8")), encoding="utf-8")
