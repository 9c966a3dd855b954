"""Figures as text: one line for each case. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.offering import Case, Usage

FULL = 0.9  # of one core
KIB, MIB = 1024, 1024 * 1024
HEADINGS = (
    "size", "offered", "included/s", "kept up", "hear p50", "p99", "send p50", "p99", "whole p50", "p99",
    "CPU ms", "db ms", "emulator ms", "ratio", "machine ms", "relative", "busy", "emulator", "others", "memory", "fds", "journal",
)  # fmt: skip
WIDTHS = (8, 7, 10, 7, 8, 7, 8, 7, 9, 7, 6, 5, 11, 5, 10, 8, 5, 8, 6, 7, 4, 7)


def legend(emulator: str) -> str:
    """Return what the figures of CPU mean, with the commit of the emulator."""
    return (
        f"emulator of {emulator or 'no commit'}; ratio: CPU of connector and database to that emulator's; "
        "machine ms: CPU of a fixed piece of work meanwhile; relative: CPU ms and db ms in pieces of it"
    )


def heading() -> str:
    """Return the line above all others."""
    return line(HEADINGS, WIDTHS)


def row(case: Case) -> str:
    """Return one case. Times in milliseconds; busy: the share of one core."""
    found = case.outcome
    spreads = (found.hearing, found.sending, found.whole)
    times = [milliseconds(value) for spread in spreads for value in (spread.p50, spread.p99)]
    figures = (case.cpu_ms, case.database_ms, case.emulator_ms, case.ratio, case.machine_ms, case.relative)
    cpu = [hundredths(value) for value in figures]
    return line(
        (
            size(case.size), f"{found.offered_rate:g}/s", f"{found.rate:.1f}", kept_up(case),
            *times, *cpu, f"{case.connector.share:.0%}", f"{case.emulator.share:.0%}", f"{case.others:.0%}",
            f"{case.connector.resident / MIB:.0f} MB", str(case.connector.descriptors), size(case.journal_bytes),
        ),
        WIDTHS,
    )  # fmt: skip


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


def idle(count: int, used: Mapping[str, Usage]) -> str:
    """Return what both sides used while nothing was offered, as shares of one core."""
    shares = ", ".join(f"{side} {one.share:.1%}" for side, one in used.items() if side != "machine")
    return f"{size(count):>{WIDTHS[0]}}  idle: {shares}"


def line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return cells in their columns."""
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


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
