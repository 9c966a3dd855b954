"""Where the curve bends: one line for each rate, with what was full. Pure."""

from __future__ import annotations

from typing import Final

from bench.offering import Busiest, Case
from bench.table import hundredths, kept_up, line, milliseconds

RATES: Final = (100.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0, 600.0, 800.0, 1000.0)
SECONDS: Final = 15.0
SIZE: Final = 205
HEADINGS: Final = (
    "offered", "included/s", "kept up", "connector ms", "db ms", "emulator ms", "machine ms", "busiest process",
    "cores", "send p50", "p99", "whole p50", "p99",
)  # fmt: skip
WIDTHS: Final = (7, 10, 7, 12, 6, 11, 10, 15, 8, 8, 6, 9, 6)


def heading() -> str:
    """Return the line above all others."""
    return line(HEADINGS, WIDTHS)


def row(case: Case, cores: int) -> str:
    """Return one rate: CPU for each request by side, then how full the busiest process and all cores were, then times."""
    found = case.outcome
    costs = (case.cpu_ms, case.database_ms, case.emulator_ms, case.machine_ms)
    times = [value for spread in (found.sending, found.whole) for value in (spread.p50, spread.p99)]
    return line(
        (
            f"{found.offered_rate:g}/s", f"{found.rate:.1f}", kept_up(case), *map(hundredths, costs),
            _named(case.busiest), f"{case.machine.share:.2f}/{cores}", *map(milliseconds, times),
        ),
        WIDTHS,
    )  # fmt: skip


def _named(one: Busiest | None) -> str:
    return "-" if one is None else f"{one.side} {one.share:.0%}"
