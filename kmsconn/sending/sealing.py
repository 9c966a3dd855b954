"""Gives answered requests a nonce, fees and a signature, and makes that durable. Sends nothing.

An estimate that says *retry* parks the reply without a nonce, so that it holds nobody back.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import itemgetter

from kmsconn.journal.port import Row
from kmsconn.model.events import Severity
from kmsconn.net.together import together
from kmsconn.sending import nonces
from kmsconn.sending.desk import Desk, Sight
from kmsconn.sending.fees import Errand, Price, gas_limit
from kmsconn.sending.node import calldata_of
from kmsconn.sending.outcomes import (
    Accepts,
    Says,
    Unclear,
    is_done,
    is_hopeless,
    read_estimate,
    reason_of,
)
from kmsconn.sending.wallet import Signed

AT_ONCE = 256  # replies that a round signs
_DEEPEST = 4096  # landed replies that are looked through when a nonce fell back

Ready = tuple[Row, int]


async def seal(desk: Desk, sight: Sight) -> tuple[int, ...]:
    """Sign what may be sent; return the holes that nothing new fills and something flying waits behind.

    Sets ``desk.waiting`` and ``desk.more``. Raises Retryable. Cancellation: what was signed is durable or was never sent.
    Repeating: signed rows are not answered any more.
    """
    rows = await _due(desk)
    ready = await _estimate(desk, sight, rows) if rows else []
    flying = desk.nonces()
    window = desk.lane.window
    open_holes = nonces.holes(sight.head.nonce, flying, desk.high, window) if sight.fresh else ()
    desk.forget_all_but(open_holes, rows)
    ripe = [hole for hole in open_holes if desk.holes.confirms(hole, sight.head.number, sight.now)]
    blocking = [hole for hole in open_holes if hole < max(flying, default=-1)]
    if ripe and (ready or blocking) and await _fell_back(desk, sight, ripe):
        desk.more = True
        return ()
    if not set(blocking) <= set(ripe):  # new replies would only wait behind them; soon they may fill them
        ready = [one for one in ready if _kept_nonce(desk, one[0]) is not None]
    kept = [_kept_nonce(desk, row) for row, _ in ready]
    plan = nonces.plan(sight.head.nonce, flying, desk.high, ripe, kept)
    if ready:
        await _seal(desk, sight, list(zip(ready, plan.nonces, strict=True)))
    return plan.unfilled


async def _due(desk: Desk) -> Sequence[Row]:
    room = min(AT_ONCE, desk.lane.window - len(desk.flying))
    desk.more = False
    if room <= 0:
        return ()
    now = desk.lane.ports.wall()
    due = await desk.journal.answered(desk.chain_id, now, room)
    desk.waiting = bool(due.rows) or due.next_due is not None
    desk.more = due.next_due is not None and due.next_due <= now
    return [row for row in due.rows if row.rid not in desk.flying]


async def _estimate(desk: Desk, sight: Sight, rows: Sequence[Row]) -> list[Ready]:
    """Ask the contract about all of them at once; return those that it would take, with their gas limits."""
    looked = await desk.node.look([desk.node.estimate_of(row) for row in rows])
    says = [
        read_estimate(desk.lane.profile, row.kind, result)
        for row, result in zip(rows, looked.results, strict=True)
    ]
    percent = desk.lane.settings.gas_multiplier_percent
    told = list(zip(rows, await desk.explained(says), looked.heads, strict=True))
    await together(
        [
            partial(_put_off, desk, sight, row, said, head)
            for row, said, head in told
            if not isinstance(said, Accepts)
        ]
    )
    claimed = desk.nonces()
    return [
        (row, gas_limit(said.gas, percent) + desk.lane.profile.operations[row.kind].spare_gas)
        for row, said, head in told
        if isinstance(said, Accepts) and _may_sign(desk, sight, row, head, claimed)
    ]


async def _put_off(desk: Desk, sight: Sight, row: Row, said: Says, head: int) -> None:
    """Do what a reply needs that the contract would not take now."""
    if is_done(said):
        await desk.found(row, head)
    elif is_hopeless(said) and head >= sight.head.number and sight.is_old(row):
        await desk.give_up(row, said, reason_of(said))
    else:
        if isinstance(said, Unclear) and said.funds:
            desk.alert("funds", said.reason, Severity.CRITICAL)
        await desk.park(row, reason_of(said))


async def _fell_back(desk: Desk, sight: Sight, ripe: Sequence[int]) -> bool:
    """Take back landed replies whose nonces are open again: a reorganisation took their block, long before burial would notice.

    Only a node that is not behind their block can say so.
    """
    landed = await desk.journal.landed(desk.chain_id, sight.head.number, _DEEPEST)
    fallen = [row for row in landed if row.nonce in ripe]
    await together([partial(desk.unland, row, "its nonce is open again") for row in fallen])
    return bool(fallen)


def _kept(desk: Desk, row: Row) -> Row | None:
    """Return a reply with its earlier bytes, where a journal or this process still has them."""
    return row if row.raw is not None else desk.kept.get(row.rid)


def _kept_nonce(desk: Desk, row: Row) -> int | None:
    kept = _kept(desk, row)
    return None if kept is None else kept.nonce


def _may_sign(desk: Desk, sight: Sight, row: Row, head: int, claimed: set[int]) -> bool:
    """Say whether no earlier bytes of a reply can be included beside new ones.

    Their nonce is open and nobody else's, so they go out again and it is ``claimed``; or it is used, on the second look as well.
    """
    nonce = _kept_nonce(desk, row)
    if nonce is None:
        return True
    if nonce < sight.head.nonce:
        trusted = sight.fresh and head >= sight.head.number
        return trusted and desk.absent.confirms(row.rid, head, sight.now)
    if nonce in claimed:
        return False
    claimed.add(nonce)
    return True


async def _seal(desk: Desk, sight: Sight, planned: Sequence[tuple[Ready, int]]) -> None:
    """Sign all at once and make it durable in nonce order, so that an end in between leaves no hole."""
    price = await desk.fees.price(sight.head.base_fee)
    planned = sorted(planned, key=itemgetter(1))
    pairs = zip(planned, await _bytes(desk, planned, price), strict=False)
    await desk.sign([(row, nonce, signed) for ((row, _), nonce), signed in pairs])


async def _bytes(desk: Desk, planned: Sequence[tuple[Ready, int]], price: Price) -> list[Signed]:
    """Return signed bytes in nonce order, up to the first that the wallet could not sign now: a gap would hold up what follows."""
    earlier = {nonce: kept for (row, _), nonce in planned if (kept := _kept_bytes(desk, row, nonce))}
    transactions = [
        Errand(desk.chain_id, row.contract, calldata_of(row), gas).at(nonce, price)
        for (row, gas), nonce in planned
        if nonce not in earlier
    ]
    made = iter(await desk.signed(transactions))
    found: list[Signed] = []
    for _, nonce in planned:
        one = earlier.get(nonce) or next(made, None)
        if one is None:
            break
        found.append(one)
    return found


def _kept_bytes(desk: Desk, row: Row, nonce: int) -> Signed | None:
    """Return the earlier bytes of a reply where its nonce is the same."""
    kept = _kept(desk, row)
    if kept is None or kept.nonce != nonce or kept.raw is None or kept.reply_hash is None:
        return None
    return kept.raw, kept.reply_hash
