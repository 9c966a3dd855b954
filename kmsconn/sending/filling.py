"""Closes gaps in the nonces that keep signed replies from landing: holes after a reorganisation, and bytes that no node takes.

A hole that nothing new fills takes the last flying reply, signed again; but only when the node refused its bytes for the gap, because a
pool that keeps later nonces could still include them, and the reply would be sent twice. There an empty transfer to ourselves fills it.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.transactions import decode_transaction
from kmsconn.journal.port import Row
from kmsconn.sending.desk import Desk, Sight
from kmsconn.sending.fees import Errand, Price, gas_limit
from kmsconn.sending.node import nonce_of, send_of
from kmsconn.sending.outcomes import THERE, Accepts, Sent, read_estimate, read_sent

REFUSALS = 3  # of the same bytes, until their nonce is used up by an empty transfer
_FILLER = b"filler"  # stands for the hash: any filler of a nonce will do


async def fill(desk: Desk, sight: Sight, holes: Sequence[int]) -> None:
    """Close ``holes`` and the nonce of a reply that nobody takes. Raises Retryable. Repeating: one of two transactions lands."""
    for hole in holes:
        last = max(desk.flying.values(), key=nonce_of, default=None)
        if last is None or nonce_of(last) < hole:
            return
        if desk.flights.said(last.rid, last.reply_hash) is Sent.GAP:
            await _move_down(desk, last, hole)
        else:
            await _send_filler(desk, sight, hole)
    refused = _refused(desk, sight)
    if refused is not None:
        await _send_filler(desk, sight, nonce_of(refused))


async def _move_down(desk: Desk, row: Row, hole: int) -> None:
    try:
        old = decode_transaction(row.raw or b"").transaction
    except Undecodable:
        return
    raw, reply_hash = await desk.lane.wallet.sign_transaction(attrs.evolve(old, nonce=hole))
    await desk.sign(row, hole, raw, reply_hash)


def _refused(desk: Desk, sight: Sight) -> Row | None:
    """Return the reply that everything waits for and that the node refused again and again."""
    for row in desk.flying.values():
        flight = desk.flights.of(row.rid, row.reply_hash)
        if nonce_of(row) == sight.head.nonce and flight and flight.said is Sent.REFUSED:
            return row if flight.times >= REFUSALS else None
    return None


async def _send_filler(desk: Desk, sight: Sight, nonce: int) -> None:
    if desk.sends.holds(sight.now) or not desk.fillers.due(nonce, _FILLER, sight.now, desk.block_time):
        return
    errand = Errand(desk.chain_id, desk.lane.wallet.address, b"", 0)
    [estimate] = await desk.node.batch([desk.node.estimate_of_errand(errand)])
    says = read_estimate(desk.lane.profile, next(iter(desk.flying.values())).kind, estimate)
    if isinstance(says, Accepts):
        gas = gas_limit(says.gas, desk.lane.settings.gas_multiplier_percent)
        price = await desk.fees.price(sight.head.base_fee)
        await _hand_over(desk, sight, attrs.evolve(errand, gas=gas), nonce, price)


async def _hand_over(desk: Desk, sight: Sight, errand: Errand, nonce: int, price: Price) -> None:
    raw, _ = await desk.lane.wallet.sign_transaction(errand.at(nonce, price))
    [result] = await desk.node.batch([send_of(raw)])
    said = read_sent(result)
    desk.fillers.note(nonce, _FILLER, said, sight.now)
    if said not in THERE:
        desk.sends.failed(sight.now)
