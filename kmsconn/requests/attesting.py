"""Has other nodes asked before a request ends by what a chain says, and before a Core does something for good.

The checks are those of ``Checker``, put to witnesses (``chain.witness``): no second judgement is written. Each of them must come to the
same end, else the request waits. What was destroyed is attested for all requests of its context together (``Contexts.weigh``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from kmsconn.chain.port import SendingRpc
from kmsconn.chain.witness import Denials
from kmsconn.errors import Aborted, AlreadyDone, Destroyed, NotYet, Over, Rejected, RequestError, Unreachable
from kmsconn.model.life import Checked, Seen
from kmsconn.requests.checker import Checker

_ENDS = (Rejected, Aborted, Over, AlreadyDone)


@attrs.frozen
class AttestedChecker:
    """Checks requests by the node in use, and what cannot be undone by ``witnesses`` too: other nodes, by chain."""

    checker: Checker
    witnesses: Sequence[Mapping[int, SendingRpc]]
    denials: Denials = attrs.field(factory=Denials)

    async def check(self, seen: Seen) -> Checked:
        """Return the request with its context when everything holds. Raises as ``Checker.check``, NotYet if a witness does not agree.

        Cancellation: at any time. Repeating: reads only.
        """
        end: RequestError | None = None
        try:
            checked = await self.checker.check(seen)
        except Destroyed:
            raise
        except _ENDS as error:
            end = error
        if end is not None:
            await self._attest(seen, end)
            raise end
        if self.checker.profile.operations[seen.request.kind].for_good:
            await self._attest(seen, None)
        return checked

    async def _attest(self, seen: Seen, end: RequestError | None) -> None:
        """Return once every witness came to the same end, or to none. Raises NotYet."""
        rid = seen.request.rid
        for chains in self.denials.needed(rid, self.witnesses):
            other = await self._end_by(seen, chains)
            if type(other) is not type(end):
                if not isinstance(other, Unreachable):
                    self.denials.note(rid)
                said = "another one does not" if other is None else f"another one says: {other}"
                raise NotYet(f"{end or 'it may be done'}, one node says, and {said}")

    async def _end_by(self, seen: Seen, chains: Mapping[int, SendingRpc]) -> RequestError | None:
        """Return what a witness makes of a request; None if all checks pass."""
        try:
            await self.checker.of_nodes(seen.request.rid, chains).ask(seen)
        except RequestError as error:
            return error
        return None
