"""The stages of a request: one async function from each typed step to the next. Each may be cancelled and repeated at any await."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import attrs
import trio

from kmsconn.chain.asking import run_query_plan
from kmsconn.chain.port import Rpc
from kmsconn.ciphertexts.budget import Lease
from kmsconn.ciphertexts.fetch import Fetcher
from kmsconn.core.client import CoreClient, Started
from kmsconn.errors import Broken, Overloaded, Unreachable, let_go
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.life import Answer, Answered, Checked, Ciphertext, Gathered, Seen, Submitted
from kmsconn.model.requests import CiphertextReference, Request
from kmsconn.protocols.port import CoreCall
from kmsconn.protocols.profile import Profile
from kmsconn.requests.attesting import AttestedChecker
from kmsconn.requests.checker import Checker
from kmsconn.requests.failures import SOON
from kmsconn.requests.identity import NodeIdentity
from kmsconn.transport.waiting import Backoff

# Bytes of a message whose result is waited for at once: larger ones are released before the wait.
LARGE_MESSAGE = 1024 * 1024
WAITING_SHARE = 0.8  # of what is left of the stage's time

IN_WORKER = Backoff(first=0.1, cap=2.0)
WORKER_WAIT_LIMIT = 5.0  # seconds that a worker waits for a dependency before the request is deferred

T = TypeVar("T")

Metadata = tuple[tuple[bytes, bytes], ...]


async def retrying(step: Callable[[], Awaitable[T]], random: Callable[[], float]) -> T:
    """Run ``step`` until it ends, waiting while a dependency is unreachable or overloaded, for about ``WORKER_WAIT_LIMIT`` seconds.

    Raises what ``step`` raises; the dependency's error once patience is used up. Cancellation: between tries and inside them.
    """
    give_up, tries = trio.current_time() + WORKER_WAIT_LIMIT, 0
    while True:
        try:
            return await step()
        except (Unreachable, Overloaded) as error:
            wait = IN_WORKER.seconds(tries, random())
            if trio.current_time() + wait >= give_up:
                raise
            let_go(error)
        tries += 1
        await trio.sleep(wait)


@attrs.frozen
class Stages:
    """The four stages over the dependencies that they ask; ``chains`` those of inquiries."""

    profile: Profile
    chains: Mapping[int, Rpc]
    checker: Checker
    attested: AttestedChecker
    """The same, where what cannot be undone needs the word of other nodes."""
    identity: NodeIdentity
    fetcher: Fetcher
    core: CoreClient
    random: Callable[[], float]
    compare_attestations: Callable[[CiphertextReference, Ciphertext], None] = lambda _, __: None
    """Takes each reference with what was gathered for it, to compare its attestations; returns at once."""
    trace_metadata: Callable[[Request], Metadata] | None = None
    """Returns what the Core is told of the trace of a request; None: nothing, and nobody is asked."""
    reading_only: bool = False
    """Whether another connector starts at the Core what must not be started twice (shadow mode)."""

    async def check(self, seen: Seen) -> Checked:
        """Ask whether the request may be answered.

        Raises Rejected, AlreadyDone when the contract has this node's answer for good, NotYet, Unreachable.
        Repeating: reads only.
        """
        return await retrying(partial(self.attested.check, seen), self.random)

    async def gather(self, checked: Checked, lease: Lease) -> Gathered:
        """Fetch every ciphertext, all at once; their bytes are held under ``lease``.

        Raises Unreachable when no bucket gave the right bytes, or nobody attests them where that is needed. Repeating: reads only.
        """
        references = checked.request.content.references
        ciphertexts = await self.fetcher.fetch_all(references, lease) if references else []
        # now: before, buckets that are down would be reported at every attempt
        for pair in zip(references, ciphertexts, strict=True):
            self.compare_attestations(*pair)
        found = ciphertexts if references else await self._inquire(checked)
        return Gathered(checked.request, checked.context_id, checked.epoch_id, found)

    async def _inquire(self, checked: Checked) -> Any:
        request = checked.request
        plan = self.profile.operations[request.kind].plan(request.content)
        if plan is None:
            return None
        asking = run_query_plan(self.chains[request.chain_id], plan)
        return await self.checker.suspicions.of((request.rid, "gather"), request.chain_id, asking)

    async def submit(self, gathered: Gathered) -> Submitted:
        """Hand the request to the Core, and take its result if that comes at once.

        Raises Unreachable, Overloaded, NotYet, Misconfigured, Rejected, Refused.
        Repeating: the Core knows the id and says ALREADY_EXISTS, which is success, or attaches to what it has. What that is not true of
        a shadow does not start: it waits for the result of what the other connector started.
        """
        request = gathered.request
        operation = self.profile.operations[request.kind]
        if self.reading_only and not operation.harmless_twice:
            return Submitted(request)
        calls = operation.start_calls(request.content, gathered.found)
        if self.trace_metadata is not None:
            metadata = self.trace_metadata(request)
            calls = tuple(attrs.evolve(call, metadata=metadata) for call in calls)
        first = next(iter(calls), None)
        if (
            first is not None
            and first.at_once
            and first.message.size <= LARGE_MESSAGE
            and self.core.waits(first)
        ):
            started = await self._decrypt(first)
            return Submitted(request, existed=started.existed, reply=started.reply)
        uncertain, existed = "", False
        said: list[bytes] = []
        for call in calls:  # one after the other: the second is made once the first was taken
            start = partial(self.core.start, call)
            # what is repeated seldom is not repeated within a pass: the Core may crash over it each time
            started = await (start() if operation.longest_wait > SOON.cap else retrying(start, self.random))
            existed = started.existed
            if started.uncertain:
                uncertain = f"{started.uncertain} ({call.hint})" if call.hint else started.uncertain
            said += started.said
        over = operation.over(request.content, gathered.found, said)
        return Submitted(request, uncertain, existed, over=over)

    async def _decrypt(self, call: CoreCall) -> Started:
        """Wait for a result at once, but not to the stage's end: the Core has it then, and is asked for the result without the payload."""
        now = trio.current_time()
        with trio.move_on_at(now + WAITING_SHARE * (trio.current_effective_deadline() - now)):
            return await retrying(partial(self.core.decrypt, call), self.random)
        return Started()

    async def answer(self, submitted: Submitted) -> Answered:
        """Wait for the Core's answer and see that it is this node's own for this very content, whose context still stands.

        Raises Destroyed, NotYet when the long poll ended without one, Forgotten, Broken for an answer that must not be sent, and the rest.
        Repeating: the Core gives a finished answer any number of times.
        """
        request = submitted.request
        await self.checker.recheck(request)
        expected = await retrying(partial(self.identity.signer_for, request), self.random)
        operation = self.profile.operations[request.kind]
        reply = submitted.reply
        if reply is None and (call := operation.result_call(request.content)) is not None:
            if self.trace_metadata is not None:
                call = attrs.evolve(call, metadata=self.trace_metadata(request))
            reply = await retrying(partial(self.core.result, call), self.random)
        if expected is None and operation.signed:
            return Answered(request, None)  # not ours to reply to: what it says is for others
        answer = operation.read_answer(request.content, reply, expected)
        if answer is not None and answer.signer != expected:
            raise _wrong_signer(request, answer, expected)
        return Answered(request, answer)


def _wrong_signer(request: Request, answer: Answer, expected: Address | None) -> Broken:
    by, wanted = checksum(answer.signer), "nobody" if expected is None else checksum(expected)
    said = f"the answer for request 0x{id_hex(request.id)} is signed by {by}, expected {wanted} of this node: check kms_core_endpoints"
    return Broken("core", said).of(cause="wrong-signer")
