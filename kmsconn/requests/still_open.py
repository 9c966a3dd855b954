"""Checks whether a request still waits for this node's answer: not answered by it, and not finished without it."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from kmsconn.chain.asking import run_query_plan
from kmsconn.chain.heads import HeadTracker
from kmsconn.chain.port import Rpc
from kmsconn.errors import AlreadyDone, Destroyed, NotMember, NotYet, Over
from kmsconn.model.requests import Request
from kmsconn.protocols.profile import Profile
from kmsconn.protocols.queries import PlannedQueries, QueryPlan
from kmsconn.requests.contexts import Contexts
from kmsconn.requests.identity import NodeIdentity

_REMEMBERED = 100_000  # requests found answered, each until it is old enough; a few MiB


@attrs.define
class StillOpen:
    """Asks the contracts what became of requests; remembers since when the contract has had an answer."""

    profile: Profile
    chains: Mapping[int, Rpc]
    heads: Mapping[int, HeadTracker]
    identity: NodeIdentity
    contexts: Contexts
    reorg_window: float
    shadow: bool = False
    """Whether an answer in the contract is no reason to give none here: another connector gave it."""
    _answered_since: dict[int, float] = attrs.field(factory=dict)

    async def check(self, request: Request) -> None:
        """Let a request pass that this node has not answered and that still waits for answers.

        A node outside of its context waits for the others, but not longer than the request does.
        """
        no_member: NotMember | None = None
        try:
            await self._not_answered(request)
        except NotMember as error:
            no_member = error
        await self._stands(request)
        if no_member is not None:
            raise no_member

    def standing(self, request: Request) -> PlannedQueries[bool] | None:
        """Return the question whether a request still waits for answers; None where it waits until this node has answered."""
        operation = self.profile.operations[request.kind]
        return operation.standing(request.content, self.identity.tx_sender)

    async def _stands(self, request: Request) -> None:
        standing = self.standing(request)
        if standing is not None and not await self._still_stands(*standing):
            raise Over("it is finished on chain without this node, or is not a task of this node")

    async def _still_stands(self, chain_id: int, rounds: QueryPlan[bool]) -> bool:
        try:
            return await run_query_plan(self.chains[chain_id], rounds)
        except Destroyed as error:
            self.contexts.weigh(error)
            raise

    async def _not_answered(self, request: Request) -> None:
        """Let a request pass that this node has not answered on chain; after a lost journal most old ones are."""
        if self.shadow:
            await self.identity.signer_for(request)  # raises NotMember
            return
        if not await self.identity.has_answered(request):
            self._answered_since.pop(request.rid, None)
            return
        if len(self._answered_since) >= _REMEMBERED:
            self._answered_since.clear()  # of requests that ended otherwise; forgetting only asks again
        now = float(self.heads[request.chain_id].timestamp or 0)
        if now - self._answered_since.setdefault(request.rid, now) > self.reorg_window:
            del self._answered_since[request.rid]
            raise AlreadyDone("this node's answer is in the contract")
        raise NotYet(
            "this node's answer is in the contract; asked again once its block is older than the reorg window"
        )
