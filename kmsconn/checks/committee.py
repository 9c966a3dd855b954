"""Which node am I? The signer that goes with our tx sender in a context, learnt from the contracts and never guessed (3.9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from kmsconn.chain.asking import ask, ask_all
from kmsconn.chain.port import Rpc
from kmsconn.errors import Misconfigured
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address, checksum
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.requests import Request
from kmsconn.protocols.port import Profile, Question

T = TypeVar("T")


@attrs.define
class _Doubt:
    """Whether a signer's answer is in the contract: the question, and what was said where it has been asked."""

    signer: Address | None
    question: Question[bool]
    said: bool | None = None


@attrs.define
class Committee:
    """Answers from memory where it can: the nodes of a context never change once it exists."""

    profile: Profile
    chains: Mapping[int, Rpc]
    tx_sender: Address
    _signers: dict[tuple[int, int], Address] = attrs.field(factory=dict)
    _contexts: dict[tuple[int, bytes], int] = attrs.field(factory=dict)

    async def has_answered(self, request: Request) -> bool:
        """Say whether this node's answer to a request is in the contract. Raises as ``signer_for``.

        Where the request's context must be asked for, so is the answer of the signer learnt last, in the same batch: it mostly is the one.
        """
        latest = next(reversed(self._signers.values()), None)
        doubt = None if latest is None else self._doubt(request, latest)
        signer = await self._signer_for(request, doubt)
        if doubt is None or doubt.signer != signer:
            doubt = self._doubt(request, signer)
        if doubt is None:
            return False
        return await self._ask(doubt.question) if doubt.said is None else doubt.said

    def _doubt(self, request: Request, signer: Address | None) -> _Doubt | None:
        question = self.profile.has_answered(request.content, signer, self.tx_sender)
        return None if question is None else _Doubt(signer, question)

    async def signer_for(self, request: Request) -> Address | None:
        """Return the signer whose answer the contract takes from us for this request.

        None where no answer is signed, and where we are to work on it with others without replying.

        Raises Misconfigured when our tx sender is no member of the request's context, Unreachable.
        """
        return await self._signer_for(request, None)

    async def _signer_for(self, request: Request, doubt: _Doubt | None) -> Address | None:
        operation = self.profile.operations[request.kind]
        if not operation.signed:
            return None
        context_id = await self._context_for(request, doubt)
        key = (request.chain_id, context_id)
        if (known := self._signers.get(key)) is not None:
            return known
        signer = await self._ask(self.profile.node_signer(request.kind, context_id, self.tx_sender))
        if signer == ZERO_ADDRESS and operation.outsiders:
            return None
        if signer == ZERO_ADDRESS:
            raise Misconfigured(
                f"tx sender {checksum(self.tx_sender)} is no node of context {id_hex(context_id)}"
            )
        self._signers[key] = signer
        return signer

    async def _context_for(self, request: Request, doubt: _Doubt | None) -> int:
        key = (request.id, request.digest)
        if (known := self._contexts.get(key)) is not None:
            return known
        found = self.profile.replying_context(request.content)
        if isinstance(found, int):
            return found
        for_ever, *others = found
        context_id = await self._ask_with(doubt, for_ever)
        if context_id and others:
            if len(self._contexts) >= _REMEMBERED:
                self._contexts.clear()
            self._contexts[key] = context_id
        for question in others:  # of a request older than pinning, or that the node does not have yet
            context_id = context_id or await self._ask(question)
        return context_id

    async def _ask_with(self, doubt: _Doubt | None, question: Question[T]) -> T:
        if doubt is None:
            return await self._ask(question)
        both: list[Question[Any]] = [question, doubt.question]
        answer: T
        answer, doubt.said = await ask_all(self.chains[question.chain_id], both)
        return answer

    async def _ask(self, question: Question[T]) -> T:
        return await ask(self.chains[question.chain_id], question)


_REMEMBERED = 100_000  # requests without a context in extraData; a few MiB
