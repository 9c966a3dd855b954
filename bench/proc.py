"""What the kernel says about a process and its descendants: CPU time, memory, descriptors. Linux only; starts nothing."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

PROC = Path("/proc")
TICK = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@attrs.frozen
class Stat:
    """What ``/proc/PID/stat`` says: CPU in seconds with that of ended children, memory in bytes."""

    pid: int
    parent: int
    cpu: float
    resident: int


@attrs.frozen
class Sample:
    """A process and its descendants at one moment (Unix seconds)."""

    at: float
    cpu: float
    resident: int
    descriptors: int
    each: Mapping[int, float] = attrs.field(factory=dict, eq=False)
    """The CPU seconds of each process by its number."""


def parse_stat(text: str) -> Stat:
    """Read one line of ``/proc/PID/stat``; the name in it may hold blanks and parentheses. Source: proc(5)."""
    pid, _, rest = text.partition(" (")
    fields = rest.rpartition(")")[2].split()
    cpu = sum(int(ticks) for ticks in fields[11:15]) * TICK
    return Stat(int(pid), int(fields[1]), cpu, int(fields[21]) * PAGE)


def descendants(roots: Iterable[int], stats: Iterable[Stat]) -> list[Stat]:
    """Return processes and everything that they started, as far as that still runs."""
    children = defaultdict(list)
    known = {}
    for stat in stats:
        children[stat.parent].append(stat.pid)
        known[stat.pid] = stat
    found, waiting = [], list(roots)
    while waiting:
        pid = waiting.pop()
        found += [known[pid]] if pid in known else []
        waiting += children[pid]
    return found


def look(*sides: Sequence[int]) -> list[Sample]:
    """Look at process trees now, at those of each side as one; what has ended has used nothing."""
    stats = list(_all_stats())
    return [_of_tree(descendants(roots, stats)) for roots in sides]


def _of_tree(tree: Sequence[Stat]) -> Sample:
    return Sample(
        time.time(),
        sum(one.cpu for one in tree),
        sum(one.resident for one in tree),
        sum(_descriptors(one.pid) for one in tree),
        {one.pid: one.cpu for one in tree},
    )


def look_at_machine() -> Sample:
    """Look at the whole machine: CPU seconds of all cores, of everybody."""
    return Sample(time.time(), parse_busy((PROC / "stat").read_text(encoding="utf-8")), 0, 0)


def parse_busy(text: str) -> float:
    """Return the seconds in which the cores of ``/proc/stat`` did something; guests are in user time already."""
    user, nice, system, _, _, irq, softirq, steal = (
        int(ticks) for ticks in text.split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) * TICK


def _all_stats() -> Iterator[Stat]:
    for folder in PROC.iterdir():
        if folder.name.isdecimal():
            try:
                yield parse_stat((folder / "stat").read_text(encoding="utf-8", errors="replace"))
            except (FileNotFoundError, ProcessLookupError):
                continue


def _descriptors(pid: int) -> int:
    try:
        return sum(1 for _ in (PROC / str(pid) / "fd").iterdir())
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return 0
