"""Looks once more at landed replies, when their block is older than the overlap: there for good, or gone with a reorganisation.

The contract is asked with the reply's own calldata from its own sender, which needs no knowledge of its storage. A node that lags
is not believed; a reply counts as gone on the second look. A reorganisation may have put a reply into a later block than the one
where it was seen landing: the receipt, asked in the same batch, says so, and the reply waits until that block is old.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from kmsconn.chain.logs import read_head
from kmsconn.chain.port import RpcError
from kmsconn.errors import Unreachable
from kmsconn.journal.port import Row
from kmsconn.net.together import together
from kmsconn.sending.desk import Desk, Sight
from kmsconn.sending.node import block_at, receipt_of
from kmsconn.sending.outcomes import Accepts, Receipt, is_done, read_call, read_receipt

AT_ONCE = 256  # landed replies that are looked at for each head


async def bury(desk: Desk, sight: Sight) -> None:
    """Move on every landed reply that is old enough, at most once a head. Raises Retryable. Repeating: as ``settle``."""
    if not sight.fresh or sight.settled <= desk.buried_at:
        return
    rows = await desk.journal.landed(desk.chain_id, sight.settled, AT_ONCE)
    here = [row for row in rows if row.on_chain and row.answer is not None]
    await _send_back(desk, [row for row in rows if row not in here])
    if not here or await _ask_contract(desk, sight, here):
        desk.buried_at = sight.settled if len(rows) < AT_ONCE else desk.buried_at


async def _send_back(desk: Desk, rows: Sequence[Row]) -> None:
    """Give back what needs no question.

    A reply to a request that left the chain is gone with it; the contract may speak of other content under the id. Answered and off
    chain, it waits until the request comes back. A reply found by somebody without an answer kept is looked for again from the start.
    """
    for row in rows:
        reason = (
            "the request left the chain" if not row.on_chain else "found on chain before; to be checked again"
        )
        await desk.unland(row, reason)


async def _ask_contract(desk: Desk, sight: Sight, rows: Sequence[Row]) -> bool:
    """Return whether a node that is not behind answered."""
    with_receipt = [row for row in rows if row.reply_hash is not None]
    looked = await desk.node.look(
        [
            block_at(sight.settled),
            *(desk.node.call_of(row) for row in rows),
            *(receipt_of(row) for row in with_receipt),
        ]
    )
    settled, *results = looked.results
    if looked.head < sight.head.number or not _is_old(settled, sight, desk.lane.settings.overlap):
        return False
    says = [
        read_call(desk.lane.profile, row.kind, result)
        for row, result in zip(rows, results[: len(rows)], strict=True)
    ]
    pairs = list(zip(rows, await desk.explained(says), strict=True))
    young = _young(sight, with_receipt, results[len(rows) :])
    await desk.bury([row for row, said in pairs if is_done(said) and row.rid not in young])
    absent = [row for row, said in pairs if isinstance(said, Accepts)]
    gone = [row for row in absent if desk.gone.confirms(row.rid, looked.head, sight.now)]
    desk.gone.keep({row.rid for row in absent} - {row.rid for row in gone})
    await together([partial(desk.unland, row, "its block is gone") for row in gone])
    await _by_receipt(
        desk, sight, [row for row, said in pairs if not is_done(said) and not isinstance(said, Accepts)]
    )
    return True


def _is_old(block: Any, sight: Sight, overlap: float) -> bool:
    """Say whether the newest settled block is as old as its distance from the head suggests.

    Distance alone lies when a reorganisation made the chain shorter. Timestamps are whole seconds, hence the one.
    """
    try:
        _, timestamp = read_head(block)
    except (RpcError, Unreachable):
        return False
    return sight.head.timestamp - timestamp >= overlap - 1


def _young(sight: Sight, rows: Sequence[Row], results: Sequence[Any]) -> set[int]:
    """Return the rows whose reply stands in a block that is not old enough, or where no node would say."""
    receipts = [(row, result, read_receipt(result)) for row, result in zip(rows, results, strict=True)]
    return {
        row.rid
        for row, result, receipt in receipts
        if isinstance(result, RpcError) or (isinstance(receipt, Receipt) and receipt.block > sight.settled)
    }


async def _by_receipt(desk: Desk, sight: Sight, rows: Sequence[Row]) -> None:
    """Bury by receipt where the contract has become unable to tell: a context that was destroyed hides what was answered under it."""
    rows = [row for row in rows if row.reply_hash is not None]
    if not rows:
        return
    looked = await desk.node.look([receipt_of(row) for row in rows])
    receipts = [(row, read_receipt(result)) for row, result in zip(rows, looked.results, strict=True)]
    await desk.bury(
        [
            row
            for row, receipt in receipts
            if isinstance(receipt, Receipt) and receipt.succeeded and receipt.block <= sight.settled
        ]
    )
