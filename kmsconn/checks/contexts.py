"""Is the context, and its epoch, of a request valid on chain? Cached with a time to live, asked anew after it (3.5)."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kmsconn.chain.asking import inquire
from kmsconn.chain.port import Rpc
from kmsconn.protocols.port import Profile

TIME_TO_LIVE = 60.0  # seconds that a valid pair is believed


@attrs.define
class Contexts:
    """Remembers the pairs found valid, and when (``now``: seconds that only grow)."""

    profile: Profile
    ethereum: Rpc
    now: Callable[[], float]
    _valid: dict[tuple[int | None, int | None], float] = attrs.field(factory=dict)

    def knows(self, context_id: int | None, epoch_id: int | None) -> bool:
        """Say whether the pair is believed to be valid without asking."""
        found = self._valid.get((context_id, epoch_id))
        return found is not None and self.now() - found < TIME_TO_LIVE

    async def check(self, context_id: int | None, epoch_id: int | None) -> None:
        """Return when the pair is valid; a request that names no context passes.

        Raises Rejected for what was destroyed, NotYet when the chain says no, Unreachable. Repeating: reads only.
        """
        if self.knows(context_id, epoch_id):
            return
        checks = self.profile.context_checks(context_id, epoch_id)
        if checks is not None:
            await inquire(self.ethereum, checks[1])
        self._valid[context_id, epoch_id] = self.now()
