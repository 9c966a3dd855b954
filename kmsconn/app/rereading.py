"""Reads a contract once more from the configured block, once for each value of the option, beside the live end; a restart goes on with it.

Such a read adds missing requests and judges no absence.
"""

from __future__ import annotations

from functools import partial

import attrs
import trio

from kmsconn.app.range_reader import RangeReader
from kmsconn.app.retrying import until_kept
from kmsconn.journal import queries, rewinding
from kmsconn.journal.values import Reread


async def read_once_more(ranges: RangeReader) -> None:
    """Read what is to be read once more. Cancellation: the next start goes on with it. Repeating: harmless."""
    contract, of = ranges.contract, ranges.contract.subscription
    journal, stalled = contract.journal, contract.stalled_alert("once more")
    todo = await _what_to_read(ranges)
    while todo is not None and todo.next_block <= todo.to_block:
        last = min(todo.to_block, todo.next_block + ranges.cursor.size - 1)
        if await ranges.read_again(todo.next_block, last):
            stalled.worked()
            todo = attrs.evolve(todo, next_block=last + 1)
            await until_kept(partial(journal.run, rewinding.note_reread, of.chain_id, of.contract, todo))
        else:
            stalled.failed(ranges.reason)
            await trio.sleep(contract.chain_context.polling)


async def _what_to_read(ranges: RangeReader) -> Reread | None:
    """Return what was begun, else what follows from the configured block where that was not done before."""
    contract, of, cursor = ranges.contract, ranges.contract.subscription, ranges.cursor
    from_block = contract.chain_context.from_block
    known = await until_kept(lambda: contract.journal.run(queries.reread, of.chain_id, of.contract))
    if from_block is None or (known is not None and known.from_block == from_block):
        return known
    return Reread(from_block, from_block, cursor.next_block - 1)
