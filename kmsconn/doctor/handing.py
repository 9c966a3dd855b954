"""Hands one recent request over to the Core, as the connector does: checks, gathers, starts. Only where the operator wants that."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kmsconn.core_client.client import CoreClient
from kmsconn.doctor.buckets import BucketAccess, KnownBuckets
from kmsconn.doctor.chains import CheckedChain
from kmsconn.doctor.probing import Fact
from kmsconn.errors import RequestError, Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import Content, Kind
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.port import Coprocessor, Facts, Profile
from kmsconn.rpc.asking import ask


@attrs.frozen
class HandOver:
    """How a request is handed over: one that everybody may see, once the host chains say so, with its ciphertexts."""

    profile: Profile
    chain: Callable[[int], CheckedChain]
    client: CoreClient
    access: BucketAccess
    coprocessors: Fact[tuple[Coprocessor, ...]]
    tx_sender: Fact[Address]

    async def of(self, content: Content) -> str:
        """Hand a request over, and return nothing, or why that was not done.

        Raises RequestError for what the Core says. Repeating: ALREADY_EXISTS is success.
        """
        if content.kind is not Kind.PUBLIC_DECRYPTION:
            return "it is not public"
        await self.coprocessors.wait()
        if self.coprocessors.missing:
            return self.coprocessors.missing
        try:
            await self._check(content)
            gathered = await self._gather(content)
            calls = self.profile.operations[content.kind].start_calls(content, gathered, None)
        except RequestError as error:
            return str(error)
        for call in calls:
            await self.client.start(call)
        return ""

    async def _check(self, content: Content) -> None:
        """Ask the host chains whether everybody may see it. Raises Rejected, Retryable."""
        facts = Facts(chain_time=0.0, age=0.0, tx_sender=self.tx_sender.value)
        for question in self.profile.operations[content.kind].checks(content, facts):
            chain = self.chain(question.chain_id)
            await chain.usable.wait()
            if chain.usable.missing:
                raise Unreachable(chain.usable.missing)
            await ask(chain.rpc, question)

    async def _gather(self, content: Content) -> list[Ciphertext]:
        buckets = {one.tx_sender: one.bucket for one in self.coprocessors.value if one.bucket}
        return [await self.access.fetch(KnownBuckets(buckets), one) for one in content.references]
