"""Checks whether a request may be answered: puts the operation's questions to the chains, all at once, and judges nothing itself."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import attrs
import trio

from kmsconn.chain.asking import MAX_BATCH, ask_all
from kmsconn.chain.heads import HeadTracker
from kmsconn.chain.port import JsonTransaction, Rpc, RpcError, read
from kmsconn.errors import (
    DestroyedOnce,
    KmsconnError,
    Misconfigured,
    NotYet,
    Rejected,
    Retryable,
    Unreachable,
)
from kmsconn.ethereum.addresses import parse_address
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.model.requests import Request
from kmsconn.model.steps import Checked, Seen
from kmsconn.protocols.port import Facts, expiry_of
from kmsconn.protocols.profile import Profile
from kmsconn.protocols.queries import ContractQuery
from kmsconn.requests.contexts import Contexts
from kmsconn.requests.expiry import DecryptionExpiry
from kmsconn.requests.identity import NodeIdentity
from kmsconn.requests.still_open import StillOpen
from kmsconn.requests.suspicions import Suspicions
from kmsconn.transport.waiting import together

Step = Callable[[], Awaitable[Any]]

CONFIRMED = 3600.0  # seconds for which a contract's word about its EIP-712 domain counts
RECHECKING = 2.0  # seconds; an Ethereum that says nothing holds up no answer


@attrs.define
class Checker:
    """Checks over every configured chain; ``heads`` of those whose requests are checked.

    ``shadow``: a request that has been answered is answered here too, to compare the answers.
    """

    profile: Profile
    chains: Mapping[int, Rpc]
    heads: Mapping[int, HeadTracker]
    identity: NodeIdentity
    contexts: Contexts
    suspicions: Suspicions
    expiry: DecryptionExpiry
    reorg_window: float
    shadow: bool = False
    domain_confirmed_at: float = -math.inf
    """The Trio time at which the Gateway last confirmed the configured EIP-712 domain of decryptions."""
    _open: StillOpen = attrs.field(
        default=attrs.Factory(
            lambda self: StillOpen(
                self.profile,
                self.chains,
                self.heads,
                self.identity,
                self.contexts,
                self.reorg_window,
                self.shadow,
            ),
            takes_self=True,
        ),
        init=False,
    )

    async def check(self, seen: Seen) -> Checked:
        """Return the request with its context when everything holds.

        Raises Rejected, NotYet (not valid yet), Denied, NotMember, Misconfigured (a chain that is not configured),
        AlreadyDone when the contract has had this node's answer for longer than the reorg window, Over when it waits for none any more,
        Aborted, Unreachable. An end that a chain names counts once a later head says the same, and is NotYet before.
        Repeating: reads only.
        """
        request = seen.request
        context_id, epoch_id = request.content.context
        self._recall(request, context_id, epoch_id)
        facts = self._facts(request)
        steps: list[Step] = [partial(self._open.check, request)]
        if not self.contexts.knows(context_id, epoch_id):
            steps.append(partial(self.contexts.check, context_id, epoch_id))
        if request.content.needs_transaction:
            with self.suspicions.of(request.rid, request.chain_id):
                questions = await self._questions_behind_transaction(request, facts, steps)
                await together(self._asking(questions))
        else:
            questions = self._questions(request, facts)
            with self.suspicions.of(request.rid, request.chain_id):
                await together([*steps, *self._asking(questions)])
        return Checked(request, context_id, epoch_id)

    async def recheck(self, request: Request) -> None:
        """Raise Destroyed where a context or epoch of a request is over by now, DestroyedOnce where that is to be confirmed.

        Nothing else matters once the Core has it. Costs a question a minute for all requests of the same context, and two seconds at
        most. Repeating: reads only.
        """
        pair = request.content.context
        self.contexts.refuse_destroyed(pair)
        if self.contexts.knows(*pair):
            return
        with trio.move_on_after(RECHECKING):
            try:
                await self.contexts.check(*pair)
            except DestroyedOnce:
                raise
            except Retryable:
                return

    def _recall(self, request: Request, context_id: int | None, epoch_id: int | None) -> None:
        """Raise what is known to stand in the way of all requests of a context, before anything is asked for this one.

        A request that others may finish without this node is asked about all the same.
        """
        self.contexts.recall(context_id, epoch_id)
        if self._open.standing(request) is None:
            self.identity.recall(request)

    def _facts(self, request: Request) -> Facts:
        timestamp = self.heads[request.chain_id].timestamp
        if timestamp is None:
            raise Unreachable(f"no block of chain {request.chain_id} has been seen yet")
        return Facts(
            float(timestamp),
            self._age(request),
            tx_sender=self.identity.tx_sender,
            domain_confirmed=trio.current_time() - self.domain_confirmed_at <= CONFIRMED,
        )

    def _questions(self, request: Request, facts: Facts) -> Sequence[ContractQuery[None]]:
        """Return the operation's questions. A request is rejected for its age only in chain time that is sure, not on one node's word."""
        operation = self.profile.operations[request.kind]
        try:
            return operation.checks(request.content, facts)
        except Rejected:
            operation.checks(request.content, attrs.evolve(facts, chain_time=self._sure_time(request)))
            raise NotYet("too late by the time of one node; asked again at a later head") from None

    async def _questions_behind_transaction(
        self, request: Request, facts: Facts, others: Sequence[Step]
    ) -> Sequence[ContractQuery[None]]:
        """Return the questions that the request's transaction leads to, once the other steps have passed beside it.

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
        return questions

    def _age(self, request: Request) -> float:
        """Return the seconds since it was recorded that are sure; 0 for what never expires."""
        settled = self.heads[request.chain_id].settled_timestamp
        if settled is None or math.isinf(request.deadline):
            return 0.0
        shortest = expiry_of(self.profile.operations[request.kind], self.expiry.shortest())
        return max(0.0, settled - (request.deadline - shortest))

    def _sure_time(self, request: Request) -> float:
        """Return a chain time that has passed for sure: the settled one, or the earliest at which the request can have been recorded."""
        settled = self.heads[request.chain_id].settled_timestamp
        if settled is not None:
            return float(settled)
        return request.deadline - expiry_of(self.profile.operations[request.kind], self.expiry.longest())

    async def _transaction(self, request: Request) -> Any:
        try:
            rpc = self.chains[request.chain_id]
            found = await rpc.call("eth_getTransactionByHash", to_hex(request.place.transaction_hash))
        except RpcError as error:
            raise Unreachable(f"the node does not return the transaction of the request: {error}") from error
        if found is None:
            raise NotYet("the transaction of the request is not known to the node yet")
        return found

    def _asking(self, questions: Sequence[ContractQuery[None]]) -> list[Step]:
        def chain_of(question: ContractQuery[None]) -> int:
            return question.chain_id

        steps: list[Step] = []
        for chain_id, group in groupby(sorted(questions, key=chain_of), key=chain_of):
            rpc = self.chains.get(chain_id)
            if rpc is None:
                raise Misconfigured(f"host chain {chain_id} is not configured (host_chains)").of(
                    f"host chain {chain_id}", "not-configured"
                )
            batch = list(group)
            steps += [
                partial(ask_all, rpc, batch[at : at + MAX_BATCH]) for at in range(0, len(batch), MAX_BATCH)
            ]
        return steps


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
