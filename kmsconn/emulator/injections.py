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


@attrs.frozen
class FaultInjection(Generic[A]):
    """A fault that strikes calls of a method (None: any) with this probability."""

    probability: float
    fault: InjectedFault[A]
    method: str | None = None


def struck(injections: Iterable[FaultInjection[A]], method: str, random: Random) -> InjectedFault[A] | None:
    """Return the first fault that strikes a call of this method, if one does."""
    for chance in injections:
        if chance.method in {None, method} and random.random() < chance.probability:
            return chance.fault
    return None
