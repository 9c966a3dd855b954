"""Looks after replies whose nonce is used: landed, failed, or its nonce taken by another transaction.

A transaction can only be in the chain when the sender's nonce is beyond its own, so receipts are asked for once a reply, not once a
round. A missing receipt is believed on a second look, and then the contract decides: the bytes that landed may be older ones of the
same reply, of before a replacement.
"""

from __future__ import annotations

from collections.abc import Sequence

from kmsconn.journal.port import Row
from kmsconn.sending.desk import Desk, Sight
from kmsconn.sending.node import nonce_of, receipt_of, trace_of
from kmsconn.sending.outcomes import (
    Receipt,
    Says,
    Sent,
    Unclear,
    is_done,
    is_hopeless,
    read_call,
    read_receipt,
    read_trace,
    reason_of,
)

AT_ONCE = 256  # receipts that a round asks for

Failure = tuple[Row, Receipt]


async def settle(desk: Desk, sight: Sight) -> None:
    """Move on every reply whose nonce is used. Raises Retryable. Repeating: each move happens once, the rest are reads."""
    rows = [row for row in desk.in_nonce_order() if _is_used(desk, sight, row)][:AT_ONCE]
    if not rows:
        return
    looked = await desk.node.look([receipt_of(row) for row in rows])
    receipts = [(row, read_receipt(result)) for row, result in zip(rows, looked.results, strict=True)]
    heads = dict(zip((row.rid for row in rows), looked.heads, strict=True))
    found = [(row, receipt) for row, receipt in receipts if isinstance(receipt, Receipt)]
    await desk.land([(row, receipt.block) for row, receipt in found if receipt.succeeded])
    await _explain(desk, sight, [(row, receipt) for row, receipt in found if not receipt.succeeded])
    if looked.head >= sight.head.number:
        missing = [row for row, receipt in receipts if receipt is None and nonce_of(row) < sight.head.nonce]
        await _ask_contract(
            desk, sight, [r for r in missing if desk.absent.confirms(r.rid, heads[r.rid], sight.now)]
        )


def _is_used(desk: Desk, sight: Sight, row: Row) -> bool:
    return nonce_of(row) < sight.head.nonce or desk.flights.said(row.rid, row.reply_hash) is Sent.USED


async def _explain(desk: Desk, sight: Sight, failures: Sequence[Failure]) -> None:
    """Find out why replies were mined with status 0; their nonces are used in any case."""
    says = await desk.explained(await _traces(desk, failures))
    unclear = [failure for failure, said in zip(failures, says, strict=True) if isinstance(said, Unclear)]
    called = iter(await desk.explained(await _calls(desk, unclear)))
    for (row, receipt), traced in zip(failures, says, strict=True):
        said: Says = next(called) if isinstance(traced, Unclear) else traced
        if is_done(said):
            await desk.land([(row, receipt.block)])
        else:
            hint = f"; {traced.reason}" if isinstance(traced, Unclear) and traced.reason else ""
            await _give_back(desk, sight, row, said, f"mined with status 0: {reason_of(said)}{hint}")


async def _traces(desk: Desk, failures: Sequence[Failure]) -> Sequence[Says]:
    if not failures or not desk.lane.settings.trace_reverted_tx:
        return [Unclear("")] * len(failures)
    looked = await desk.node.look([trace_of(row) for row, _ in failures])
    return [
        read_trace(desk.lane.profile, row.kind, result)
        for (row, _), result in zip(failures, looked.results, strict=True)
    ]


async def _calls(desk: Desk, failures: Sequence[Failure]) -> Sequence[Says]:
    """Ask the contract as it was after each failure's block."""
    if not failures:
        return []
    looked = await desk.node.look([desk.node.call_of(row, receipt.block) for row, receipt in failures])
    return [
        read_call(desk.lane.profile, row.kind, result)
        for (row, _), result in zip(failures, looked.results, strict=True)
    ]


async def _ask_contract(desk: Desk, sight: Sight, rows: Sequence[Row]) -> None:
    """Decide about replies whose nonce is used and whose bytes are not in the chain."""
    if not rows:
        return
    looked = await desk.node.look([desk.node.call_of(row) for row in rows])
    if looked.head < sight.head.number:
        return
    for row, result, head in zip(rows, looked.results, looked.heads, strict=True):
        [said] = await desk.explained([read_call(desk.lane.profile, row.kind, result)])
        if is_done(said):
            await desk.land([(row, head)])
        elif not isinstance(said, Unclear):
            await _give_back(desk, sight, row, said, f"another transaction took the nonce: {reason_of(said)}")


async def _give_back(desk: Desk, sight: Sight, row: Row, said: Says, reason: str) -> None:
    if is_hopeless(said) and sight.is_old(row) and await desk.is_on_chain(row):
        await desk.give_up(row, said, reason)
    else:
        await desk.release(row, reason)
