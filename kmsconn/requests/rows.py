"""Reads the request of a journal row, and the operation of its kind and its order among others. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs

from kmsconn.errors import Undecodable
from kmsconn.journal.rows import Row
from kmsconn.model.requests import EventPlace, Order, Request
from kmsconn.protocols.profile import Profile


def request_of(profile: Profile, row: Row) -> Request:
    """Read the request of a row from its stored event. Raises Undecodable (then an older program wrote it, or of another generation)."""
    if row.kind not in profile.operations:
        raise Undecodable(f"{profile.name} knows no {row.kind}")
    event, log = row.event, row.event.log
    content = profile.decode(log)
    if content is None:
        raise Undecodable("the event asks for nothing")
    place = EventPlace(log.block_number, log.block_hash, log.transaction_hash, log.log_index)
    deadline = row.progress.deadline
    return Request(row.rid, event.chain_id, event.contract, content, event.digest, place, deadline)


def order_of(profile: Profile, row: Row) -> Order:
    """Return the order of a row's request; no order for an event that cannot be read, so that its row comes to its end soon."""
    try:
        content = profile.decode(row.event.log)
    except Undecodable:
        return Order()
    return Order() if content is None else content.order


@attrs.frozen
class Entry:
    """A request in the line with its order."""

    row: Row
    order: Order


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
    over = {entry.row.rid for entry in gone}
    at_work = {one for entry in gone if entry.row.rid in busy for one in entry.order.under}
    held: set[int] = set()
    free = []
    for entry in line:
        order = entry.order
        if entry.row.rid in over:
            continue
        if entry.row.rid not in busy and not (order.behind & held) and not (order.ends & at_work):
            free.append(entry)
        held |= order.holds
    return free
