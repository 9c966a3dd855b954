"""The stages of a request: one async function from each typed step to the next. Each may be cancelled and repeated at any await."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs

from kmsconn.checks.checker import Checker
from kmsconn.checks.committee import Committee
from kmsconn.ciphertexts.budget import Lease
from kmsconn.ciphertexts.fetch import Fetcher
from kmsconn.errors import Broken
from kmsconn.kms.port import Core
from kmsconn.model.requests import Material
from kmsconn.model.steps import Answered, Checked, Ciphertext, Gathered, Seen, Submitted
from kmsconn.net.together import together
from kmsconn.protocols.port import Profile
from kmsconn.service.retrying import retrying


@attrs.frozen
class Stages:
    """The four stages over the neighbours that they ask."""

    profile: Profile
    checker: Checker
    committee: Committee
    fetcher: Fetcher
    core: Core
    random: Callable[[], float]
    shadow: Callable[[Material, Ciphertext], None] = lambda _, __: None
    """Takes each material with what was gathered for it, to compare its attestations; returns at once."""

    async def check(self, seen: Seen) -> Checked:
        """Ask whether the request may be answered.

        Raises Rejected, AlreadyDone when the contract has this node's answer for good, NotYet, Unreachable.
        Repeating: reads only.
        """
        return await retrying(lambda: self.checker.check(seen), self.random)

    async def gather(self, checked: Checked, lease: Lease) -> Gathered:
        """Fetch every ciphertext, all at once; their bytes are held under ``lease``.

        Raises Unreachable when no bucket gave the right bytes. Repeating: reads only.
        """
        materials = checked.request.content.materials
        ciphertexts = await together([partial(self.fetcher.fetch, material, lease) for material in materials])
        for found in zip(
            materials, ciphertexts, strict=True
        ):  # now: before, buckets that are down would be doubted at every try
            self.shadow(*found)
        return Gathered(checked.request, checked.context_id, checked.epoch_id, tuple(ciphertexts))

    async def submit(self, gathered: Gathered) -> Submitted:
        """Hand the request to the Core.

        Raises Unreachable, Overloaded, NotYet, Misconfigured, Rejected, Refused.
        Repeating: the Core knows the id and says ALREADY_EXISTS, which is success.
        """
        call = self.profile.start_call(
            gathered.request.content, gathered.context_id, gathered.epoch_id, gathered.ciphertexts
        )
        await retrying(lambda: self.core.start(call), self.random)
        return Submitted(gathered.request)

    async def answer(self, submitted: Submitted) -> Answered:
        """Wait for the Core's answer and see that it is this node's own for this very content.

        Raises NotYet when the long poll ended without one, Forgotten, Broken for an answer that must not be sent, and the rest.
        Repeating: the Core gives a finished answer any number of times.
        """
        request = submitted.request
        expected = await retrying(lambda: self.committee.signer_for(request), self.random)
        call = self.profile.result_call(request.content)
        reply = await retrying(lambda: self.core.result(call), self.random)
        answer = self.profile.read_answer(request.content, reply)
        if answer.signer != expected:
            raise Broken("core", "the answer is not signed by this node's signer for this content")
        return Answered(request, answer)
