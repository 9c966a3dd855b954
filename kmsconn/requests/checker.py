"""Checks whether a request may be answered, and still waits for an answer; knows how long decryptions are worked on.

Puts the operation's questions to the chains, all at once, and judges nothing itself.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from kmsconn.chain.asking import MAX_BATCH, ask_beside, run_query_plan
from kmsconn.chain.port import JsonTransaction, Rpc, RpcError, SendingRpc, read
from kmsconn.errors import (
    AlreadyDone,
    Destroyed,
    DestroyedOnce,
    KmsconnError,
    Misconfigured,
    NotMember,
    NotYet,
    Over,
    Rejected,
    Retryable,
    Unreachable,
)
from kmsconn.ethereum.addresses import parse_address
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.model.life import Checked, Seen
from kmsconn.model.requests import Request
from kmsconn.protocols.port import Facts
from kmsconn.protocols.profile import Profile
from kmsconn.protocols.queries import ContractQuery, QueryPlan
from kmsconn.requests.contexts import Contexts, Suspicions
from kmsconn.requests.identity import NodeIdentity
from kmsconn.transport.waiting import together

Step = Callable[[], Awaitable[Any]]

CONFIRMED = 3600.0  # seconds for which a contract's word about its EIP-712 domain counts
RECHECKING = 2.0  # seconds; an Ethereum that says nothing holds up no answer
NEW_FOR = 5.0  # seconds of its chain's blocks for which nobody asks whether a request is answered
REMEMBERED = 100_000  # requests found answered, each until it is old enough; a few MiB
DAY, HOUR = 24 * 3600.0, 3600.0
"""Seconds that connectors until 0.14, and from 0.15 on, work on a decryption."""


@attrs.define
class DecryptionExpiry:
    """The age in seconds at which decryptions expire: as the option says, else as the release of the network does.

    Connectors of 0.15 give a decryption up after an hour, those before after a day. What one node does not answer for longer than the
    others wait for it is of no use, so the default follows the network. It may change while the connector runs, and rows keep the deadline
    that they were recorded with. ``later``: whether the network is one of 0.15; None: nobody knows yet. Source: fhevm-0.15.md, section 3.
    """

    option: float | None = None
    later: bool | None = None

    def seconds(self) -> float:
        """Return the age at which a request expires that is recorded now."""
        if self.option is not None:
            return self.option
        return HOUR if self.later else DAY

    def longest(self) -> float:
        """Return the greatest age that a request can have been given: it was recorded no earlier."""
        return DAY if self.option is None else self.option

    def shortest(self) -> float:
        """Return the age that a request was given, or less: it was recorded no later, as far as is known."""
        return HOUR if self.option is None and self.later is None else self.seconds()


@attrs.define
class Checker:
    """Checks over every configured chain.

    ``shadow``: a request that has been answered is answered here too, to compare the answers: another connector gave that one.
    """

    profile: Profile
    chains: Mapping[int, SendingRpc]
    identity: NodeIdentity
    contexts: Contexts
    suspicions: Suspicions
    expiry: DecryptionExpiry
    reorg_window: float
    shadow: bool = False
    wall: Callable[[], float] = lambda: math.inf
    domain_confirmed_at: float = -math.inf
    """The Trio time at which the Gateway last confirmed the configured EIP-712 domain of decryptions."""
    _answered_since: dict[int, float] = attrs.field(factory=dict)
    """Since when the contract has had this node's answer, by request."""

    async def check(self, seen: Seen) -> Checked:
        """Return the request with its context when everything holds.

        Raises Rejected, NotYet (not valid yet), Denied, NotMember, Misconfigured (a chain that is not configured),
        AlreadyDone when the contract has had this node's answer for longer than the reorg window, Over when it waits for none any more,
        Aborted, Unreachable. An end that a chain names counts once a later head says the same, and is NotYet before.
        Repeating: reads only.
        """
        request = seen.request
        await self.suspicions.of(request.rid, request.chain_id, self.ask(seen))
        return Checked(request, *request.content.context)

    def of_nodes(self, rid: int, chains: Mapping[int, SendingRpc]) -> Checker:
        """Return what checks a request by the answers of other nodes, and remembers nothing."""
        suspicions = Suspicions(self.suspicions.heads)
        ethereum = chains.get(self.contexts.ethereum.chain_id, self.contexts.ethereum)
        return attrs.evolve(
            self,
            chains=chains,
            identity=NodeIdentity(self.profile, chains, self.identity.tx_sender),
            contexts=Contexts(self.contexts.profile, ethereum, self.contexts.now, suspicions),
            suspicions=suspicions,
            answered_since={rid: -math.inf},
        )

    async def ask(self, seen: Seen) -> None:
        """Put all questions about a request. Raises as ``check``, but by one look at one node."""
        request = seen.request
        context_id, epoch_id = request.content.context
        # what is known to stand in the way of all requests of a context, before anything is asked for this one
        knows_context = self.contexts.recall(context_id, epoch_id)
        operation, tx_sender = self.profile.operations[request.kind], self.identity.tx_sender
        if self.identity.outside.said and operation.standing(request.content, tx_sender) is None:
            self.identity.recall(request)  # else others may finish it
        facts = self._facts(request)
        steps: list[Step] = [partial(self._still_open, request)]
        if not knows_context:
            steps.append(partial(self.contexts.check, context_id, epoch_id))
        if request.content.needs_transaction:
            await self._ask_behind_transaction(request, facts, steps)
        else:
            await ask_beside(steps, self._batches(self._questions(request, facts)))

    async def recheck(self, request: Request) -> None:
        """Raise Destroyed where a context or epoch of a request is over by now, DestroyedOnce where that is to be confirmed.

        Nothing else matters once the Core has it. Costs a question a minute for all requests of the same context, and two seconds at
        most. Repeating: reads only.
        """
        try:
            if not self.contexts.recall(*request.content.context):
                with trio.move_on_after(RECHECKING):
                    await self.contexts.check(*request.content.context)
        except DestroyedOnce:
            raise
        except Retryable:
            return

    def _facts(self, request: Request) -> Facts:
        timestamp = self.suspicions.heads[request.chain_id].timestamp
        if timestamp is None:
            raise Unreachable(f"no block of chain {request.chain_id} has been seen yet")
        settled, age = self.suspicions.heads[request.chain_id].settled_timestamp, 0.0
        if settled is not None and not math.isinf(request.deadline):  # else none is sure, or it never expires
            shortest = min(self.profile.operations[request.kind].lifetime, self.expiry.shortest())
            age = max(0.0, settled - (request.deadline - shortest))
        confirmed = trio.current_time() - self.domain_confirmed_at <= CONFIRMED
        return Facts(float(timestamp), age, tx_sender=self.identity.tx_sender, domain_confirmed=confirmed)

    def _questions(self, request: Request, facts: Facts) -> Sequence[ContractQuery[None]]:
        """Return the operation's questions. A request is rejected for its age only in chain time that is sure, not on one node's word."""
        operation = self.profile.operations[request.kind]
        try:
            return operation.checks(request.content, facts)
        except Rejected:
            sure = min(self._sure_time(request), self.wall())  # over by two clocks
            operation.checks(request.content, attrs.evolve(facts, chain_time=sure))
            raise NotYet("too late by the time of one node; asked again at a later head") from None

    async def _ask_behind_transaction(self, request: Request, facts: Facts, others: Sequence[Step]) -> None:
        """Put the questions that the request's transaction leads to, once the other steps have passed beside it.

        A fault of the transaction comes out first, however fast another step fails: waiting never repairs it.
        """

        async def read() -> Sequence[ContractQuery[None]]:
            transaction = await self._transaction(request)
            return self._questions(request, attrs.evolve(facts, **_to_and_input(transaction)))

        steps: list[Step] = [read, partial(_failure_of, others)]
        questions: Sequence[ContractQuery[None]]
        questions, failure = await together(steps)
        if failure is not None:
            raise failure
        await ask_beside([], self._batches(questions))

    def _sure_time(self, request: Request) -> float:
        """Return a chain time that has passed for sure: the settled one, or the earliest at which the request can have been recorded."""
        settled = self.suspicions.heads[request.chain_id].settled_timestamp
        if settled is not None:
            return float(settled)
        return request.deadline - min(self.profile.operations[request.kind].lifetime, self.expiry.longest())

    async def _still_open(self, request: Request) -> None:
        """Let a request pass that this node has not answered and that still waits for answers.

        A node outside of its context waits for the others, but not longer than the request does.
        """
        no_member: NotMember | None = None
        try:
            await self._not_answered(request)
        except NotMember as error:
            no_member = error
        operation = self.profile.operations[request.kind]
        # None where it waits until this node has answered
        standing = operation.standing(request.content, self.identity.tx_sender)
        if standing is not None and not await self._still_stands(request, standing):
            raise Over("it is finished on chain without this node, or is not a task of this node")
        if no_member is not None:
            raise no_member

    async def _still_stands(self, request: Request, rounds: QueryPlan[bool]) -> bool:
        """Put the questions of an operation's standing. Raises Destroyed once other nodes say so too, DestroyedOnce before."""
        operation, sender = self.profile.operations[request.kind], self.identity.tx_sender

        async def again(rpc: Rpc) -> None:
            plan = operation.standing(request.content, sender)
            assert plan is not None
            await run_query_plan(rpc, plan)

        stands, destroyed = False, None
        try:
            stands = await run_query_plan(self.chains[request.chain_id], rounds)
        except Destroyed as error:
            destroyed = error
        if destroyed is not None:
            await self.contexts.weigh(destroyed, again)
            raise destroyed
        return stands

    async def _not_answered(self, request: Request) -> None:
        """Let a request pass that this node has not answered on chain; after a lost journal most old ones are."""
        new = self.shadow or self._is_new(request)
        if new:
            await self.identity.signer_for(request)  # raises NotMember
        if new or not await self.identity.has_answered(request):
            self._answered_since.pop(request.rid, None)
            return
        if len(self._answered_since) >= REMEMBERED:
            self._answered_since.clear()  # of requests that ended otherwise; forgetting only asks again
        now = trio.current_time()  # the timestamp of one head could end the window at once
        if now - self._answered_since.setdefault(request.rid, now) > self.reorg_window:
            del self._answered_since[request.rid]
            raise AlreadyDone("this node's answer is in the contract")
        again = "asked again once its block is older than the reorg window"
        raise NotYet(f"this node's answer is in the contract; {again}")

    def _is_new(self, request: Request) -> bool:
        """Say whether a request came just now: who answers it twice finds that out when the reply is estimated, and nothing is lost.

        Nothing is new before the pace of the chain is known: after a lost journal a process reads the old requests first.
        """
        head = self.suspicions.heads[request.chain_id]
        age = ((head.number or 0) - request.place.block) * head.block_time
        known = head.has_watched(2 * NEW_FOR)
        return known and age < NEW_FOR and self.profile.operations[request.kind].harmless_twice

    async def _transaction(self, request: Request) -> Any:
        try:
            rpc = self.chains[request.chain_id]
            found = await rpc.call("eth_getTransactionByHash", to_hex(request.place.transaction_hash))
        except RpcError as error:
            raise Unreachable(f"the node does not return the transaction of the request: {error}") from error
        if found is None:
            raise NotYet("the transaction of the request is not known to the node yet")
        return found

    def _batches(
        self, questions: Sequence[ContractQuery[None]]
    ) -> list[tuple[SendingRpc, Sequence[ContractQuery[None]]]]:
        """Return the questions by their chains, so many at once as a node takes."""
        by_chain: dict[int, list[ContractQuery[None]]] = {}
        for question in questions:
            by_chain.setdefault(question.chain_id, []).append(question)
        for chain_id in by_chain.keys() - self.chains.keys():
            name = f"host chain {chain_id}"
            raise Misconfigured(f"{name} is not configured (host_chains)").of(name, "not-configured")
        return [
            (self.chains[chain_id], several[at : at + MAX_BATCH])
            for chain_id, several in by_chain.items()
            for at in range(0, len(several), MAX_BATCH)
        ]


async def _failure_of(steps: Sequence[Step]) -> KmsconnError | None:
    """Run the steps and return the first failure instead of raising it."""
    try:
        await together(steps)
    except KmsconnError as error:
        return error
    return None


def _to_and_input(transaction: Any) -> dict[str, Any]:
    try:
        found = read(transaction, JsonTransaction)
        return {"to": None if found.to is None else parse_address(found.to), "input": from_hex(found.input)}
    except ValueError as error:
        raise Unreachable(f"the node returned a transaction that cannot be decoded: {error}") from error
