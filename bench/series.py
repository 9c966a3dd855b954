"""What was sampled over the time of a run, and when the machine stood still. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from bench.proc import Sample

STALLED_AFTER = 4.0
"""Seconds without a sample after which the machine is said to have stood still, as a virtual one does that is moved or saved."""


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
