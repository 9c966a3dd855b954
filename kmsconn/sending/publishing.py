"""Hands signed replies to a node, in nonce order over one connection. What is signed is sent, superseded or not.

A failed send holds all that come later back for a while; those that were on their way with it are known to the node or come again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from kmsconn.journal.port import Row
from kmsconn.model.events import Severity
from kmsconn.sending.desk import Desk, Sight
from kmsconn.sending.filling import FILLER
from kmsconn.sending.node import nonce_of
from kmsconn.sending.outcomes import THERE, Sent, read_sent


@attrs.frozen
class Parcel:
    """Bytes to hand over: a reply's, or of an empty transfer."""

    nonce: int
    raw: bytes
    row: Row | None


async def publish(desk: Desk, sight: Sight, fillers: Mapping[int, bytes]) -> None:
    """Send everything that is due, and ``fillers`` (by nonce) among it.

    Cancellation and Repeating: the same bytes again are known to the node.
    """
    if desk.sends.holds(sight.now):
        return
    parcels = [
        Parcel(nonce_of(row), row.raw or b"", row)
        for row in desk.flying.values()
        if _is_due(desk, sight, row)
    ]
    parcels += [Parcel(nonce, raw, None) for nonce, raw in fillers.items()]
    parcels.sort(key=lambda parcel: parcel.nonce)
    if parcels:
        await _send(desk, sight, parcels)


def _is_due(desk: Desk, sight: Sight, row: Row) -> bool:
    due = desk.flights.due(row.rid, row.reply_hash, sight.now, desk.block_time)
    return due and nonce_of(row) >= sight.head.nonce


async def _send(desk: Desk, sight: Sight, parcels: Sequence[Parcel]) -> None:
    results = await desk.node.hand_over([parcel.raw for parcel in parcels])
    said = [read_sent(result) for result in results]
    for parcel, one in zip(parcels, said, strict=True):
        _note(desk, sight, parcel, one)
    worst = next((index for index, one in enumerate(said) if one not in THERE), None)
    if worst is not None:
        _failed(desk, sight, said[worst], str(results[worst]))
        return
    desk.sends.worked()
    desk.clear("funds")
    desk.clear("broadcast")


def _note(desk: Desk, sight: Sight, parcel: Parcel, said: Sent) -> None:
    if parcel.row is None:
        desk.fillers.note(parcel.nonce, FILLER, said, sight.now)
    else:
        desk.note_sent(parcel.row, said, sight.now)


def _failed(desk: Desk, sight: Sight, said: Sent, reason: str) -> None:
    if said is Sent.GAP:  # the filling of gaps has its own pace, and what fills them must not be held back
        return
    desk.sends.failed(sight.now)
    if said is Sent.FUNDS:
        desk.alert("funds", reason, Severity.CRITICAL)
    elif said is Sent.FAILED:
        desk.alert("broadcast", reason)
