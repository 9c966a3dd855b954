"""Ends what is answered and not yet signed under a context or epoch that was destroyed. Signed replies are left to the contract.

A reply that was broadcast may be in the chain already, and its nonce must be used in any case; so only kept answers are ended here, and
what the contract refuses is ended by its revert (``Operation.revert``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from kmsconn.errors import Undecodable
from kmsconn.journal import queries
from kmsconn.journal.journal import Journal
from kmsconn.journal.values import Row
from kmsconn.protocols.port import Profile

PAGE = 256  # rows read at once: milliseconds of the loop, however many wait
_START = (-1, -1)


async def end_answered(
    journal: Journal,
    profile: Profile,
    chain_ids: Iterable[int],
    destroyed: frozenset[int],
    end: Callable[[Row], Awaitable[None]],
) -> None:
    """End every kept answer to a request that one of the ``destroyed`` ends.

    Raises JournalFailed. Cancellation: between rows. Repeating: ends what is left.
    """
    for chain_id in chain_ids:
        after = _START
        while rows := await journal.run(queries.answered_after, chain_id, after, PAGE):
            for row in rows:
                if _under(profile, row) & destroyed:
                    await end(row)
            after = rows[-1].log.block_number, rows[-1].log.log_index


def _under(profile: Profile, row: Row) -> frozenset[int]:
    try:
        content = profile.decode(row.log)
    except Undecodable:  # of an older program; not ours to judge
        return frozenset()
    return frozenset() if content is None else content.order.under
