"""What a run looked like over its time: open requests and latencies in windows. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import attrs

from bench.figures import percentile
from bench.proc import Sample

Span = Sequence[float | None]
"""One request: when it was visible, and when answered (Unix seconds)."""


STALLED_AFTER = 4.0
"""Seconds without a sample after which the machine is said to have stood still, as a virtual one does that is moved or saved."""


@attrs.frozen
class Window:
    """The requests that became visible in a span of time; ``at`` is its middle, times in milliseconds."""

    at: float
    p50: float
    p99: float


def windows(requests: Sequence[Span], width: float) -> list[Window]:
    """Return the latencies of answered requests by the time at which they became visible, in spans of ``width`` seconds."""
    found = defaultdict(list)
    for visible, answered in requests:
        if visible is not None and answered is not None:
            found[int(visible // width)].append(1000 * (answered - visible))
    return [_window((number + 0.5) * width, sorted(found[number])) for number in sorted(found)]


def _window(at: float, ordered: Sequence[float]) -> Window:
    p50, p99 = percentile(ordered, 0.5), percentile(ordered, 0.99)
    assert p50 is not None, "a window has a request"
    assert p99 is not None
    return Window(at, p50, p99)


def open_over(requests: Sequence[Span], moments: Sequence[float]) -> list[int]:
    """Return for each moment how many requests were visible and not answered."""
    came = sorted(visible for visible, _ in requests if visible is not None)
    went = sorted(answered for _, answered in requests if answered is not None)
    return [bisect_right(came, moment) - bisect_right(went, moment) for moment in moments]


def cores(moments: Sequence[float], cpu: Sequence[float], width: float) -> list[tuple[float, float]]:
    """Return how many cores were used in spans of at least ``width`` seconds, each by its middle; ``cpu``: seconds until each moment."""
    found, last = [], 0
    for place, at in enumerate(moments):
        passed = at - moments[last]
        if passed >= width:
            found.append((at - passed / 2, (cpu[place] - cpu[last]) / passed))
            last = place
    return found


def thinned(samples: Sequence[Sample], period: float) -> list[Sample]:
    """Leave out samples that are closer than ``period`` seconds to the last one kept."""
    kept: list[Sample] = []
    for sample in samples:
        if not kept or sample.at - kept[-1].at >= period:
            kept.append(sample)
    return kept


def stalled_alerts(samples: Sequence[Sample], shortest: float = STALLED_AFTER) -> list[tuple[float, float]]:
    """Return when nothing was sampled for longer than a sampler is late: the machine itself stood still, and for how many seconds."""
    return [
        (first.at, after.at - first.at)
        for first, after in pairwise(samples)
        if after.at - first.at > shortest
    ]


def as_columns(samples: Sequence[Sample]) -> dict[str, list[float]]:
    """Return samples as the JSON file holds them: Unix seconds, bytes, descriptors, CPU seconds."""
    return {
        "at": [round(sample.at, 2) for sample in samples],
        "resident": [sample.resident for sample in samples],
        "descriptors": [sample.descriptors for sample in samples],
        "cpu": [round(sample.cpu, 2) for sample in samples],
    }


def columns_of(samples: Mapping[str, Sequence[Sample]], period: float = 1.0) -> dict[str, Any]:
    """Return the samples of both sides for the JSON file, one a second."""
    return {side: as_columns(thinned(found, period)) for side, found in samples.items() if side != "machine"}
