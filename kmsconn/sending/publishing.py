"""Hands signed replies to a node, in nonce order over one connection. What is signed is sent, superseded or not.

Only a failed send stops the sends behind it, and every failed send holds all of them back for a while.
"""

from __future__ import annotations

from collections.abc import Sequence

from kmsconn.errors import Retryable
from kmsconn.journal.port import Row
from kmsconn.sending.desk import Desk, Sight
from kmsconn.sending.node import nonce_of, send_of
from kmsconn.sending.outcomes import THERE, Sent, read_sent

AT_ONCE = 64  # sends in one batch: some 200 KB


async def publish(desk: Desk, sight: Sight) -> None:
    """Send everything that is due. Raises Retryable. Cancellation and Repeating: the same bytes again are known to the node."""
    if desk.sends.holds(sight.now):
        return
    rows = [row for row in desk.in_nonce_order() if _is_due(desk, sight, row)]
    for start in range(0, len(rows), AT_ONCE):
        if not await _send(desk, sight, rows[start : start + AT_ONCE]):
            return


def _is_due(desk: Desk, sight: Sight, row: Row) -> bool:
    due = desk.flights.due(row.rid, row.reply_hash, sight.now, desk.block_time)
    return due and nonce_of(row) >= sight.head.nonce


async def _send(desk: Desk, sight: Sight, rows: Sequence[Row]) -> bool:
    """Send a few; return whether the next ones may follow."""
    try:
        results = await desk.node.batch([send_of(row.raw or b"") for row in rows])
    except Retryable:
        desk.sends.failed(sight.now)
        raise
    said = [read_sent(result) for result in results]
    for row, one in zip(rows, said, strict=True):
        desk.note_sent(row, one, sight.now)
    worst = next((index for index, one in enumerate(said) if one not in THERE), None)
    if worst is None:
        desk.sends.worked()
        desk.recovered("funds")
        desk.recovered(_sends(desk))
        return True
    _failed(desk, sight, said[worst], str(results[worst]))
    return False


def _failed(desk: Desk, sight: Sight, said: Sent, reason: str) -> None:
    if said is Sent.GAP:  # the filling of gaps has its own pace, and what fills them must not be held back
        return
    desk.sends.failed(sight.now)
    if said is Sent.FUNDS:
        desk.trouble("funds", reason, red=True)
    elif said is Sent.FAILED:
        desk.trouble(_sends(desk), reason)


def _sends(desk: Desk) -> str:
    return f"{desk.lane.name} sends"
