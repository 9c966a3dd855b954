"""Settles what an operation chooses for a request, durably, before the Core hears of it. Never chooses itself."""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn.journal import choices
from kmsconn.journal.journal import Journal
from kmsconn.journal.values import Row
from kmsconn.model.requests import Request
from kmsconn.model.steps import Gathered
from kmsconn.protocols.port import Choosing
from kmsconn.protocols.profile import Profile


async def settle_choice(profile: Profile, journal: Journal, row: Row, gathered: Gathered) -> Gathered:
    """Return a request that is about to be started with what was chosen for it when it was first started, or is now.

    Raises JournalFailed. Cancellation: at any time; a choice that was kept holds. Repeating: the first choice holds.
    """
    request = gathered.request
    operation = profile.operations[request.kind]
    if not isinstance(operation, Choosing):
        return gathered
    kept = row.progress.choice or await _choose(journal, operation, request)
    chosen = attrs.evolve(request, content=operation.chosen(request.content, kept))
    return attrs.evolve(gathered, request=chosen)


async def _choose(journal: Journal, operation: Choosing[Any], request: Request) -> str:
    earlier, before = operation.continues(request.content), ""
    if earlier is not None:
        before = await journal.run(choices.of_request, request.chain_id, request.contract, *earlier)
        if not before:  # a guess, which an operator can correct by the option
            return operation.choose(request.content, "")
    return await journal.run(choices.keep, request.rid, operation.choose(request.content, before))
