"""Ends the answers that are kept and not yet signed under a destroyed context or epoch. Signed replies are left to the contract.

A reply that was broadcast may be in the chain already, and its nonce must be used in any case. So only kept answers are ended here; a
reply that the contract refuses ends by its revert (``Operation.revert``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

import attrs

from kmsconn.ethereum.ids import id_name
from kmsconn.journal import queries
from kmsconn.journal.journal import Journal
from kmsconn.journal.values import Row
from kmsconn.model.requests import Request
from kmsconn.protocols.profile import Profile
from kmsconn.requests.contexts import Contexts
from kmsconn.requests.rows import order_of

PAGE = 256  # rows read at once: milliseconds of the loop, however many wait
_START = (-1, -1)


@attrs.define
class Destruction:
    """Remembers destroyed contexts and epochs, and ends their kept answers once in a process. ``end`` rejects a row with a reason."""

    profile: Profile
    journal: Journal
    chain_ids: Collection[int]
    contexts: Contexts
    end: Callable[[Row, str], Awaitable[None]]
    _ended: set[int] = attrs.field(factory=set)
    """Contexts and epochs under which every kept answer was ended."""

    def refuse(self, request: Request) -> None:
        """Raise Destroyed where a context or epoch of a request is known as destroyed; asks nothing."""
        self.contexts.refuse_destroyed(request.content.order.under)

    def note(self, identifiers: Collection[int]) -> None:
        """Remember contexts and epochs that ended with others: nothing is asked of them any more."""
        self.contexts.note_destroyed(identifiers)

    async def apply(self, request: Request) -> None:
        """Let nothing more be answered under what a request destroys, before its Core is told; what is signed, the contract decides.

        Raises JournalFailed. Cancellation: between rows. Repeating: ends what is left.
        """
        destroyed = request.content.order.ends
        if destroyed <= self._ended:  # once in a process is enough: nothing is answered under it any more
            return
        self.contexts.note_destroyed(destroyed)
        reason = f"{' and '.join(map(id_name, destroyed))} was destroyed before the answer was sent"
        for chain_id in self.chain_ids:
            await self._end_answered(chain_id, destroyed, reason)
        self._ended |= destroyed

    async def _end_answered(self, chain_id: int, destroyed: frozenset[int], reason: str) -> None:
        """End every kept answer to a request of a chain that one of the ``destroyed`` ends."""
        after = _START
        while rows := await self.journal.run(queries.answered_after, chain_id, after, PAGE):
            for row in rows:
                if order_of(self.profile, row).under & destroyed:
                    await self.end(row, reason)
            after = rows[-1].event.log.block_number, rows[-1].event.log.log_index
