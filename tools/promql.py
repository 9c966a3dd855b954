"""PromQL over the registry: a selector is written from a family, so that no query names a metric that is not there. Evaluates nothing."""

from __future__ import annotations

import re

from kmsconn.observe.families import Family, Shape

_LABEL = re.compile(r"\w*")

NODE = ("job", "instance")
"""The labels that Prometheus adds to each series of one connector."""


def select(family: Family, *matchers: str, suffix: str = "") -> str:
    """Return the selector of a family. Raises ValueError where a matcher names a label that the family does not have."""
    known = {*family.labels, *NODE, *(("le",) if suffix == "_bucket" else ())}
    for matcher in matchers:
        label = _LABEL.match(matcher)[0]  # type: ignore[index]  # it matches the empty text too
        if label not in known:
            raise ValueError(f"{family.name} has no label {label}: {', '.join(sorted(known))}")
    name = f"{family.name}{suffix}"
    return f"{name}{{{','.join(matchers)}}}" if matchers else name


def buckets(family: Family, *matchers: str) -> str:
    """Return the selector of a histogram's buckets. Raises ValueError for a family that is none."""
    return select(_histogram(family), *matchers, suffix="_bucket")


def count(family: Family, *matchers: str) -> str:
    """Return the selector of the number of a histogram's observations. Raises ValueError for a family that is none."""
    return select(_histogram(family), *matchers, suffix="_count")


def within(family: Family, seconds: float, *matchers: str) -> str:
    """Return the selector of the observations not above a limit. Raises ValueError where no bucket ends there."""
    if seconds not in family.buckets:
        raise ValueError(f"{family.name} has no bucket that ends at {seconds:g} s: {family.buckets}")
    return buckets(family, *matchers, f'le="{seconds:g}"')


def by(*labels: str) -> str:
    """Return the clause that keeps the labels of a node and these."""
    return f"by ({', '.join((*NODE, *labels))})"


def _histogram(family: Family) -> Family:
    if family.shape is not Shape.HISTOGRAM:
        raise ValueError(f"{family.name} is no histogram")
    return family
