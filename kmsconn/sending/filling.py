"""Signs what closes gaps in the nonces: holes after a reorganisation, and bytes that no node takes. Sends nothing.

A hole that nothing new fills takes the last flying reply, signed again; but only when the node refused its bytes for the gap, because a
pool that keeps later nonces could still include them, and the reply would be sent twice. There an empty transfer to ourselves fills it.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.transactions import decode_transaction
from kmsconn.sending.desk import Desk, Sight
from kmsconn.sending.fees import Errand, gas_limit
from kmsconn.sending.node import nonce_of
from kmsconn.sending.outcomes import Sent, read_gas

REFUSALS = 3  # of the same bytes, until their nonce is used up by an empty transfer
FILLER = b"filler"  # stands for the hash: any filler of a nonce will do


async def fill(desk: Desk, sight: Sight, holes: Sequence[int]) -> dict[int, bytes]:
    """Close ``holes`` and the nonce of a reply that nobody takes; return the empty transfers to send, by nonce.

    Raises Retryable. Repeating: one of two transactions of a nonce lands.
    """
    wanted = [hole for hole in holes if not await _move_down(desk, hole)]
    wanted += _refused(desk, sight)
    due = [n for n in wanted if desk.fillers.due(n, FILLER, sight.now, desk.block_time)]
    return await _fillers(desk, sight, due) if due else {}


async def _move_down(desk: Desk, hole: int) -> bool:
    """Sign the last flying reply again for a hole, if its bytes were refused for the gap; say whether the hole is closed or can wait."""
    last = max(desk.flying.values(), key=nonce_of, default=None)
    if last is None or nonce_of(last) < hole:
        return True
    if desk.flights.said(last.rid, last.reply_hash) is not Sent.GAP:
        return False
    try:
        old = decode_transaction(last.raw or b"").transaction
    except Undecodable:
        return False
    signed = await desk.signed([attrs.evolve(old, nonce=hole)])
    return all(await desk.sign([(last, hole, one) for one in signed]))


def _refused(desk: Desk, sight: Sight) -> list[int]:
    """Return the chain's next nonce if a reply holds it that the node refused again and again: everything waits for it."""
    for row in desk.flying.values():
        flight = desk.flights.of(row.rid, row.reply_hash)
        if nonce_of(row) == sight.head.nonce and flight and flight.said is Sent.REFUSED:
            return [sight.head.nonce] if flight.times >= REFUSALS else []
    return []


async def _fillers(desk: Desk, sight: Sight, nonces: Sequence[int]) -> dict[int, bytes]:
    errand = Errand(desk.chain_id, desk.lane.wallet.address, b"", 0)
    [estimate] = await desk.node.batch([desk.node.estimate_of_errand(errand)])
    gas = gas_limit(read_gas(estimate), desk.lane.settings.gas_multiplier_percent)
    price = await desk.fees.price(sight.head.base_fee)
    errand = attrs.evolve(errand, gas=gas)
    signed = await desk.signed([errand.at(nonce, price) for nonce in nonces])
    return {nonce: raw for nonce, (raw, _) in zip(nonces, signed, strict=False)}
