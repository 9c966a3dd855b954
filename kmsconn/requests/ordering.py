"""Decides which requests of an ordered queue may begin, and which another request has ended: pure decisions over ``Order``."""

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
    """Return the requests that another one ends, each with the id that it destroys, the last one first.

    The order is none of its business: an id is given out once, so that what was destroyed is never to be made again.
    """
    destroyed = {one for entry in line for one in entry.order.ends}
    return [(entry, min(over)) for entry in reversed(line) if (over := destroyed & entry.order.under)]


def free_to_begin(line: Sequence[Entry], busy: Collection[int]) -> list[Entry]:
    """Return the requests that need not wait for an earlier one, due or not; ``busy`` ones, and those that another one ends, left out.

    An end waits for whoever is at work on what it ends: a pass that is under way could make it anew behind its back.
    """
    gone = [entry for entry, _ in ended(line)]
    over = {entry.rid for entry in gone}
    at_work = {one for entry in gone if entry.rid in busy for one in entry.order.under}
    held: set[int] = set()
    free = []
    for entry in line:
        order = entry.order
        if entry.rid in over:
            continue
        if entry.rid not in busy and not (order.behind & held) and not (order.ends & at_work):
            free.append(entry)
        held |= order.holds
    return free
