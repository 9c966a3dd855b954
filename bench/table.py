"""Figures as text: one line for each case. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Final

import attrs

from bench.offering import Busiest, Case, Usage

FULL = 0.9  # of one core
KIB, MIB = 1024, 1024 * 1024


def legend(emulator: str) -> str:
    """Return what the figures of CPU mean, with the commit of the emulator."""
    return (
        f"emulator of {emulator or 'no commit'}; ratio: CPU of connector and database to that emulator's; "
        "machine ms: CPU of a fixed piece of work meanwhile; relative: CPU ms and db ms in pieces of it"
    )


@attrs.frozen
class Column:
    """A column: what stands above it, how wide it is, and what it says of a case."""

    heading: str
    width: int
    cell: Callable[[Case], str]


def _time(of: str, share: str) -> Callable[[Case], str]:
    return lambda case: milliseconds(getattr(getattr(case.outcome, of), share))


def _figure(name: str) -> Callable[[Case], str]:
    return lambda case: hundredths(getattr(case, name))


def columns() -> tuple[Column, ...]:
    """Return those of a load. Times in milliseconds; busy: the share of one core."""
    return (
        Column("size", 8, lambda case: size(case.size)),
        *_LOAD,
        Column("hear p50", 8, _time("hearing", "p50")),
        Column("p99", 7, _time("hearing", "p99")),
        *_TIMES,
        *_CPU,
        Column("ratio", 5, _figure("ratio")),
        Column("relative", 8, _figure("relative")),
        Column("busy", 5, lambda case: f"{case.connector.share:.0%}"),
        Column("emulator", 8, lambda case: f"{case.emulator.share:.0%}"),
        Column("others", 6, lambda case: f"{case.others:.0%}"),
        Column("memory", 7, lambda case: f"{case.connector.resident / MIB:.0f} MB"),
        Column("fds", 4, lambda case: str(case.connector.descriptors)),
        Column("journal", 7, lambda case: size(case.journal_bytes)),
    )


def columns_of_the_highest(cores: int) -> tuple[Column, ...]:
    """Return those of one rate after the other: CPU for each request by side, how full the busiest process and all cores were, times."""
    return (
        *_LOAD,
        *_CPU,
        Column("busiest process", 15, lambda case: _named(case.busiest)),
        Column("cores", 8, lambda case: f"{case.machine.share:.2f}/{cores}"),
        *_TIMES,
    )


def _named(one: Busiest | None) -> str:
    return "-" if one is None else f"{one.side} {one.share:.0%}"


def heading(wanted: Sequence[Column]) -> str:
    """Return the line above all others."""
    return "  ".join(one.heading.rjust(one.width) for one in wanted)


def row(wanted: Sequence[Column], case: Case) -> str:
    """Return the line of a case."""
    return "  ".join(one.cell(case).rjust(one.width) for one in wanted)


def kept_up(case: Case) -> str:
    """Return whether a load was sustained; of a machine that stood still meanwhile nothing can be said."""
    if case.stalled:
        return "still"
    return "yes" if case.outcome.sustained else "NO"


def conclusion(cases: Sequence[Case], cores: int) -> str:
    """Return the highest load that was sustained, and what had no room left at the first one that was not."""
    rates = [case.outcome.offered_rate for case in cases if case.outcome.sustained]
    most = f"kept up with {max(rates):g}/s" if rates else "kept up with none of these loads"
    failed = [case for case in cases if not case.outcome.sustained]
    return f"{most}; at {failed[0].outcome.offered_rate:g}/s {limit(failed[0], cores)}" if failed else most


def limit(case: Case, cores: int) -> str:
    """Return which process was at the end of what one core gives (threads may take a little more), and whether all cores were."""
    if case.stalled:
        return "the machine stood still"
    full = []
    if case.busiest is not None and case.busiest.share >= FULL:
        full.append(f"a process of the {case.busiest.side} was the limit")
    if case.machine.share >= FULL * cores:
        full.append(f"all cores were busy, others had {case.others:.1f} of them")
    return "; ".join(full) or "neither a process nor the machine was busy: it waited"


def compared(chosen: Sequence[Case], against: Sequence[Case]) -> list[str]:
    """Return a line for each load and figure: its median and spread over the rounds of both sides, and the one median by the other."""
    loads = dict.fromkeys((case.size, case.outcome.offered_rate) for case in chosen)
    return [
        f"{size(load[0]):>8} {load[1]:5g}/s {name:>12}: {_compared(*(_figures(figure, load, side) for side in (chosen, against)))}"
        for load in loads
        for name, figure in _COMPARED.items()
    ]


def _figures(
    figure: Callable[[Case], float | None], load: tuple[int, float], cases: Sequence[Case]
) -> list[float]:
    of_load = (case for case in cases if (case.size, case.outcome.offered_rate) == load and not case.stalled)
    return [value for case in of_load if (value := figure(case)) is not None]


def _compared(chosen: Sequence[float], against: Sequence[float]) -> str:
    if not chosen or not against:
        return "-"
    sides = " against ".join(
        f"{median(side):.2f} ({min(side):.2f} to {max(side):.2f})" for side in (chosen, against)
    )
    return f"{sides}, {median(chosen) / median(against):.2f}" if median(against) else sides


def idle(count: int, used: Mapping[str, Usage]) -> str:
    """Return what both sides used while nothing was offered, as shares of one core."""
    shares = ", ".join(f"{side} {one.share:.1%}" for side, one in used.items() if side != "machine")
    return f"{size(count):>8}  idle: {shares}"


def hundredths(value: float | None) -> str:
    """Return a figure with two digits behind the point."""
    return "-" if value is None else f"{value:.2f}"


def milliseconds(value: float | None) -> str:
    """Return a time as text."""
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def size(count: int) -> str:
    """Return bytes as text."""
    if count < KIB:
        return f"{count} B"
    return f"{count / KIB:.0f} KiB" if count < MIB else f"{count / MIB:.0f} MiB"


_LOAD: Final = (
    Column("offered", 7, lambda case: f"{case.outcome.offered_rate:g}/s"),
    Column("included/s", 10, lambda case: f"{case.outcome.rate:.1f}"),
    Column("kept up", 7, kept_up),
)
_CPU: Final = (
    Column("connector ms", 12, _figure("cpu_ms")),
    Column("db ms", 6, _figure("database_ms")),
    Column("emulator ms", 11, _figure("emulator_ms")),
    Column("machine ms", 10, _figure("machine_ms")),
)
_TIMES: Final = (
    Column("send p50", 8, _time("sending", "p50")),
    Column("p99", 7, _time("sending", "p99")),
    Column("whole p50", 9, _time("whole", "p50")),
    Column("p99", 7, _time("whole", "p99")),
)
_COMPARED: Final[Mapping[str, Callable[[Case], float | None]]] = {
    "connector ms": lambda case: case.cpu_ms,
    "db ms": lambda case: case.database_ms,
    "ratio": lambda case: case.ratio,
    "hear p50": lambda case: case.outcome.hearing.p50,
    "send p50": lambda case: case.outcome.sending.p50,
    "whole p50": lambda case: case.outcome.whole.p50,
}
