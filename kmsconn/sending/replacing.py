"""Replaces replies that stay without a receipt by the same reply at the same nonce for a higher fee.

Only after the same bytes were sent again and the contract says that it has no reply: whichever bytes are included, one reply lands.
"""

from __future__ import annotations

from collections.abc import Sequence

from kmsconn.errors import Undecodable
from kmsconn.ethereum.transactions import Transaction, decode_transaction
from kmsconn.journal.port import Row
from kmsconn.sending.desk import Desk, Sight
from kmsconn.sending.fees import Price, replacement
from kmsconn.sending.node import nonce_of
from kmsconn.sending.outcomes import Sent, Unclear, is_done, read_call

AT_ONCE = 16  # the lowest nonces: the others wait for them


async def replace(desk: Desk, sight: Sight) -> None:
    """Sign what is stuck again, for more. Raises Retryable. Repeating: the higher bid replaces the lower one."""
    if desk.sends.holds(sight.now):
        return
    rows = [row for row in desk.in_nonce_order() if _is_stuck(desk, sight, row)][:AT_ONCE]
    if not rows:
        return
    looked = await desk.node.look([desk.node.call_of(row) for row in rows])
    if looked.head < sight.head.number:
        return
    stuck = []
    for row, result in zip(rows, looked.results, strict=True):
        [said] = await desk.explained([read_call(desk.lane.profile, row.kind, result)])
        if is_done(said):
            await desk.land([(row, looked.head)])
        elif not isinstance(said, Unclear):
            stuck.append(row)
    if stuck:
        await _bid_higher(desk, stuck, await desk.fees.price(sight.head.base_fee))


def _is_stuck(desk: Desk, sight: Sight, row: Row) -> bool:
    """Say whether a reply waits for its fee; where there is no market only a node's word counts."""
    if nonce_of(row) < sight.head.nonce:
        return False
    if sight.head.base_fee is None and desk.flights.said(row.rid, row.reply_hash) is not Sent.UNDERPRICED:
        return False
    patience = desk.lane.replace_after
    return desk.flights.stuck(row.rid, row.reply_hash, sight.now, desk.block_time, patience=patience)


async def _bid_higher(desk: Desk, rows: Sequence[Row], price: Price) -> None:
    bids = [(row, replacement(old, price)) for row in rows if (old := _transaction_of(row)) is not None]
    pairs = zip(bids, await desk.signed([bid for _, bid in bids]), strict=False)
    await desk.sign([(row, nonce_of(row), signed) for (row, _), signed in pairs])


def _transaction_of(row: Row) -> Transaction | None:
    try:
        return decode_transaction(row.raw or b"").transaction
    except Undecodable:
        return None
