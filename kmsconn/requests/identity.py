"""Finds this node's signer in a context, learnt from the contracts by the tx sender's address and never guessed (3.9)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

import attrs
import trio

from kmsconn.chain.asking import ask, run_query_plan
from kmsconn.chain.port import Rpc
from kmsconn.errors import NotMember, NotYet, Retryable
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address, checksum
from kmsconn.ethereum.ids import id_name
from kmsconn.model.requests import NO_BLOCK, Kind, Request
from kmsconn.protocols.profile import Profile
from kmsconn.protocols.queries import ContractQuery
from kmsconn.requests.contexts import Shared
from kmsconn.transport.waiting import Backoff

T = TypeVar("T")

Context = tuple[int, int]
"""A chain with the id of a context there."""

# The nodes of a context never change, so who is not in one stays out of it. It is asked again all the same, since the one node that said
# so may be on a fork; and all requests of the context wait for the one question.
_OUTSIDE = Backoff(1.0, 3600.0, least=1.0)  # between two questions about a context in which this node is not


CURRENT_FOR = 5.0
"""Seconds for which the current context is believed: contexts change in days, and an answer under another one is asked for again."""


UNATTESTED_FOR = 60.0
"""Seconds for which the word of one node is kept where no others have said the same."""
ATTESTING_SECONDS = 5.0
"""Seconds for which a request waits for other nodes: without them the answer is asked for again later."""


@attrs.frozen
class Believed(Generic[T]):
    """What a node said, and the Trio time until which it is believed without asking again."""

    value: T
    until: float

    def is_valid(self) -> bool:
        """Say whether it is still believed."""
        return trio.current_time() < self.until


def _for_a_while() -> float:
    return trio.current_time() + UNATTESTED_FOR


@attrs.define
class NodeIdentity:
    """Answers from memory where it can: the nodes of a context never change once it exists.

    A signer is kept for the life of the process once ``witnesses`` have said the same, and for ``UNATTESTED_FOR`` before: a wrong one
    would make every answer of the Core count as another node's.
    """

    profile: Profile
    chains: Mapping[int, Rpc]
    tx_sender: Address
    witnesses: Sequence[Mapping[int, Rpc]] = ()
    """Other nodes of the chains."""
    _signers: dict[Context, Believed[Address]] = attrs.field(factory=dict)
    outside: Shared[Context] = attrs.field(factory=lambda: Shared((NotMember, NotYet), _OUTSIDE))
    """What ``recall`` may raise."""
    _contexts: dict[tuple[int, bytes], Believed[int]] = attrs.field(factory=dict)
    _current: dict[int, tuple[float, int]] = attrs.field(factory=dict)
    """When the context that is current for requests over HTTP was asked for, and which it is, by chain."""

    def recall(self, request: Request) -> None:
        """Raise what was said of the request's context while it is too early to ask again (``Shared``); asks nothing."""
        if not self.profile.operations[request.kind].signed:
            return
        context_id = self._known_context(request)
        if isinstance(context_id, int):
            self.outside.recall((request.chain_id, context_id))

    async def has_answered(self, request: Request) -> bool:
        """Say whether this node's answer to a request is in the contract; not where none can be asked for. Raises as ``signer_for``."""
        signer = await self.signer_for(request)
        question = self.profile.operations[request.kind].has_answered(request.content, signer, self.tx_sender)
        return question is not None and await self._ask(question)

    async def signer_for(self, request: Request) -> Address | None:
        """Return the signer whose answer the contract takes from us for this request.

        None where no answer is signed, and where we are to work on it with others without replying.

        Raises NotMember when our tx sender is no node of the request's context, Unreachable. All requests of a context wait for the
        same question.
        """
        operation = self.profile.operations[request.kind]
        if not operation.signed:
            return None
        context_id = self._known_context(request)
        if not isinstance(context_id, int):
            context_id = await self._ask_context(request, context_id)
        key = (request.chain_id, context_id)
        if not self._knows_signer(key):
            try:
                await self.outside.ask(key, partial(self._learn, request.kind, key))
            except NotMember:
                if not operation.outsiders:
                    raise
                return None
        return self._signers[key].value

    def _knows_signer(self, key: Context) -> bool:
        kept = self._signers.get(key)
        return kept is not None and kept.is_valid()

    async def _learn(self, kind: Kind, key: Context) -> None:
        """Ask for this node's signer in a context and keep it. Raises NotMember."""
        _, context_id = key
        operation = self.profile.operations[kind]
        question = operation.node_signer(context_id, self.tx_sender)
        signer = await self._ask(question)
        if signer != ZERO_ADDRESS:
            is_attested = await self._is_attested(question, signer)
            self._signers[key] = Believed(signer, math.inf if is_attested else _for_a_while())
            return
        context, sender = id_name(context_id), checksum(self.tx_sender)
        alone = not operation.outsiders and not await self._is_member_anywhere()
        more = ", nor of any other valid context" if alone else ""
        raise NotMember(f"tx sender {sender} is not a node of {context}{more}", context, alone=alone)

    async def _is_attested(self, question: ContractQuery[T], answer: T) -> bool:
        """Say whether other nodes give the same answer to a question; they do not if none of them answers in time."""
        with trio.move_on_after(ATTESTING_SECONDS):
            return await self._is_said_by_all(question, answer)
        return False

    async def _is_said_by_all(self, question: ContractQuery[T], answer: T) -> bool:
        try:
            answers = [await ask(chains[question.chain_id], question) for chains in self.witnesses]
        except Retryable:
            return False
        return all(other == answer for other in answers)

    async def _is_member_anywhere(self) -> bool:
        known = [context_id for _, context_id in self._signers]
        chain_id, rounds = self.profile.memberships(self.tx_sender, known)
        return await run_query_plan(self.chains[chain_id], rounds)

    def _known_context(self, request: Request) -> int | Sequence[ContractQuery[int]]:
        """Return the context of a request where it is known without asking, else the questions for it."""
        known = self._contexts.get((request.id, request.digest))
        if known is not None and known.is_valid():
            return known.value
        return self.profile.operations[request.kind].replying_context(request.content)

    async def _ask_context(self, request: Request, questions: Sequence[ContractQuery[int]]) -> int:
        for_ever, *others = questions
        if request.place.block == NO_BLOCK:
            return await self._current_context(for_ever)
        context_id = await self._ask(for_ever)
        if context_id and others:
            if len(self._contexts) >= _REMEMBERED:
                self._contexts.clear()
            self._contexts[request.id, request.digest] = Believed(context_id, _for_a_while())
        for question in others:  # of a request older than pinning, or that the node does not have yet
            context_id = context_id or await self._ask(question)
        return context_id

    async def _current_context(self, question: ContractQuery[int]) -> int:
        """Return the context that is current for what comes over HTTP; asked for once in a while, since no request has one of its own."""
        said = self._current.get(question.chain_id)
        now = trio.current_time()
        if said is None or now - said[0] >= CURRENT_FOR:
            said = self._current[question.chain_id] = now, await self._ask(question)
        return said[1]

    def _ask(self, question: ContractQuery[T]) -> Awaitable[T]:
        return ask(self.chains[question.chain_id], question)


_REMEMBERED = 100_000  # requests without a context in extraData; a few MiB
