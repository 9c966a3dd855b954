"""Hands due rows to the pool of their kind, best first: the journal is the queue, this is its only reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from kmsconn.journal.port import Journal, Row
from kmsconn.model.requests import IN_ORDER
from kmsconn.service.pools import Pool
from kmsconn.service.retrying import until_kept

LOOK_AGAIN = 30.0  # seconds after which the journal is looked at without being told to
SOONEST = 0.01  # seconds; rows that become due within it are handed out together


async def run_picker(pool: Pool, journal: Journal, wall: Callable[[], float]) -> None:
    """Hand out rows for ever: at once when rung, else when the next row becomes due.

    Cancellation: nothing is lost, rows that were not handed out stay due. Repeating: ``busy`` keeps a row from going out twice.
    """
    in_order = pool.name in IN_ORDER
    while True:
        wait = LOOK_AGAIN
        pool.hungry = True  # until it is known that all that is due has a place
        if pool.free:
            due = await until_kept(
                lambda: journal.due(
                    pool.kinds, wall(), pool.free, pool.busy, without=pool.full, in_order=in_order
                )
            )
            if not _hand_out(pool, due.rows):
                continue
            pool.hungry = in_order or bool(pool.full.chosen)
            if due.next_due is not None:
                wait = min(wait, max(SOONEST, due.next_due - wall()))
        with trio.move_on_after(wait):
            await pool.bell.wait()


def _hand_out(pool: Pool, rows: Sequence[Row]) -> bool:
    """Hand out what has a place; False when a shard became full meanwhile, so that others may come before the rest of its rows."""
    for row in rows:
        if row.id % pool.shards in pool.full.chosen:
            return False
        pool.hand_out(row)
    return True
