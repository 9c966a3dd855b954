"""Reads the request of a journal row, and the operation of its kind and its order among others. Pure."""

from __future__ import annotations

from typing import Any

from kmsconn.errors import Undecodable
from kmsconn.journal.values import Row
from kmsconn.model.requests import EventPlace, Order, Request
from kmsconn.protocols.port import Operation
from kmsconn.protocols.profile import Profile


def operation_of(profile: Profile, row: Row) -> Operation[Any]:
    """Return what is known of requests of a row's kind. Raises Undecodable for a kind of another generation."""
    try:
        return profile.operations[row.kind]
    except KeyError as error:
        raise Undecodable(f"{profile.name} knows no {row.kind}") from error


def request_of(profile: Profile, row: Row) -> Request:
    """Read the request of a row from its stored event. Raises Undecodable (then an older program wrote it)."""
    log = row.event.log
    content = profile.decode(log)
    if content is None:
        raise Undecodable("the event asks for nothing")
    place = EventPlace(log.block_number, log.block_hash, log.transaction_hash, log.log_index)
    return Request(
        row.rid,
        row.event.chain_id,
        row.event.contract,
        content,
        row.event.digest,
        place,
        row.progress.deadline,
    )


def order_of(profile: Profile, row: Row) -> Order:
    """Return the order of a row's request; no order for an event that cannot be read, so that its row comes to its end soon."""
    try:
        content = profile.decode(row.event.log)
    except Undecodable:
        return Order()
    return Order() if content is None else content.order
