"""Faults by name, and the chance that one strikes. Knows no dependency: what a fault does is for who meets it."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Generic, TypeVar

import attrs

A = TypeVar("A")


@attrs.frozen
class InjectedFault(Generic[A]):
    """A name for the counters, and what happens in place of what is honest."""

    name: str
    act: A = attrs.field(repr=False, eq=False)


@attrs.define(eq=False)
class FaultInjection(Generic[A]):
    """A fault that strikes calls of a method (None: any) with this probability, so many times (None: no end)."""

    probability: float
    fault: InjectedFault[A]
    method: str | None = None
    times: int | None = None


def struck(injections: Iterable[FaultInjection[A]], method: str, random: Random) -> InjectedFault[A] | None:
    """Return the first fault that strikes a call of this method, if one does."""
    for chance in injections:
        if chance.times == 0 or chance.method not in {None, method}:
            continue
        if random.random() < chance.probability:
            chance.times = None if chance.times is None else chance.times - 1
            return chance.fault
    return None
