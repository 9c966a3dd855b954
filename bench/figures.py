"""From the moments of requests to figures: percentiles, rates, what was sustained. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs

Moments = Sequence[float | None]
"""A row of the emulator: visible, started, given, sent, answered (Unix seconds)."""
VISIBLE, STARTED, GIVEN, SENT, ANSWERED = range(5)
SUSTAINED = 0.95
"""A load is sustained when replies land at this share of the offered rate at least, and none is missing."""


@attrs.frozen
class Spread:
    """Milliseconds; None of nothing."""

    count: int
    p50: float | None
    p99: float | None
    most: float | None


@attrs.frozen
class Outcome:
    """What became of one load. Rates per second."""

    offered: int
    visible: int
    answered: int
    offered_rate: float
    rate: float
    sustained: bool
    hearing: Spread
    """From the event's block to the start call at the Core: the connector's own."""
    sending: Spread
    """From the Core's answer to the transaction at the node: the connector's own."""
    whole: Spread
    """From the event's block to the reply's."""


def outcome(rows: Sequence[Moments], offered: int, offered_rate: float) -> Outcome:
    """Return the figures of a load's requests."""
    answered = [row for row in rows if row[ANSWERED] is not None]
    rate = rate_of([row[VISIBLE] for row in rows], [row[ANSWERED] for row in answered])
    return Outcome(
        offered,
        len(rows),
        len(answered),
        offered_rate,
        rate,
        len(answered) == offered and rate >= SUSTAINED * offered_rate,
        hearing=spread(between(rows, VISIBLE, STARTED)),
        sending=spread(between(rows, GIVEN, SENT)),
        whole=spread(between(rows, VISIBLE, ANSWERED)),
    )


def between(rows: Iterable[Moments], start: int, end: int) -> list[float]:
    """Return the seconds between two moments, of the rows that have both."""
    found = []
    for row in rows:
        begun, ended = row[start], row[end]
        if begun is not None and ended is not None:
            found.append(ended - begun)
    return found


def rate_of(visible: Iterable[float | None], answered: Iterable[float | None]) -> float:
    """Return the replies per second: what was answered, over the longer of the spans in which it came and went."""
    came = sorted(moment for moment in visible if moment is not None)
    went = sorted(moment for moment in answered if moment is not None)
    if len(went) < 2:
        return 0.0
    seconds = max(came[-1] - came[0], went[-1] - went[0])
    return (len(went) - 1) / seconds if seconds else math.inf


def span(rows: Iterable[Moments]) -> tuple[float, float]:
    """Return when a load began and ended: its first request and its last moment of any kind. Raises ValueError of nothing."""
    moments = [moment for row in rows for moment in row if moment is not None]
    return min(moments), max(moments)


def spread(seconds: Iterable[float]) -> Spread:
    """Return how values spread, in milliseconds."""
    ordered = sorted(1000 * second for second in seconds)
    return Spread(len(ordered), percentile(ordered, 0.5), percentile(ordered, 0.99), percentile(ordered, 1.0))


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank percentile of sorted values, None of none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
