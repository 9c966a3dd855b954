"""Decides which requests of an ordered queue may begin, and which a later request has ended: pure decisions over ``Order``."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs

from kmsconn.journal.values import Queued
from kmsconn.model.requests import Order


@attrs.frozen
class Entry:
    """A request in the line with its order."""

    queued: Queued
    order: Order

    @property
    def rid(self) -> int:
        """Its row."""
        return self.queued.row.rid


def ended(line: Sequence[Entry]) -> list[tuple[Entry, int]]:
    """Return the requests that a later one ends, each with the id that it destroys."""
    destroyed: set[int] = set()
    found = []
    for entry in reversed(line):
        if over := destroyed & entry.order.under:
            found.append((entry, min(over)))
        destroyed |= entry.order.ends
    return found


def free_to_begin(line: Sequence[Entry], busy: Collection[int]) -> list[Entry]:
    """Return the requests that need not wait for an earlier one, due or not; ``busy`` ones, and those that a later one ends, left out.

    An end waits for whoever is at work on what it ends: a pass that is under way could make it anew behind its back.
    """
    over = {entry.rid for entry, _ in ended(line)}
    held: set[int] = set()
    at_work: set[int] = set()
    free = []
    for entry in line:
        order = entry.order
        if entry.rid in over:
            at_work |= order.under if entry.rid in busy else frozenset()
            continue
        if entry.rid not in busy and not (order.behind & held) and not (order.ends & at_work):
            free.append(entry)
        held |= order.holds
    return free
