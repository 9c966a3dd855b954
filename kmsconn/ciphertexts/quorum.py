"""The quorum of coprocessors that attests a ciphertext, asked of their buckets, for a request or beside it. Fetches no ciphertext.

Source: RFC-023; fhevm-0.14.md, 4.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import attrs
import trio

from kmsconn.ciphertexts.attestation import ATTESTATION_HEADER, Attestation, consensus, parse_attestation
from kmsconn.ciphertexts.places import BucketPolicy, by_handle
from kmsconn.ciphertexts.registry import Registry
from kmsconn.errors import NoCiphertext, NotAttested, NotYet, Retryable, Undecodable, Unreachable
from kmsconn.model.events import AttestationMismatch, OnEvent
from kmsconn.model.life import Ciphertext
from kmsconn.model.requests import CiphertextReference
from kmsconn.transport.http import HttpClient

MOMENT = 0.25  # seconds that a quorum leaves the others: a question that is cut off costs its connection
QUORUM_HEAD_START = 0.25  # seconds for the buckets that are enough; then the others are asked too
COMPARISONS_PER_SECOND = 5
"""References compared, at most: each costs HEADs and signatures to recover; a coprocessor that attests wrongly shows in a share too."""
COMPARISON_BACKLOG = 8 * COMPARISONS_PER_SECOND
"""References that wait, at most: each is looked at within eight seconds, so that what is told is about a request of now."""
COMPARISON_WORKERS = 4  # references looked at at once; each asks every bucket at most once
_OK = range(200, 300)
_MISSING = (403, 404)  # a bucket that nobody may list says 403 of what it does not have


@attrs.frozen
class AttestationQuorum:
    """Asks the registered buckets with HEAD, each at most once for a ciphertext, and sees who agrees."""

    http: HttpClient
    registry: Registry
    policy: BucketPolicy
    head_timeout: float

    async def told(
        self,
        handle: bytes,
        known: str = "",
        header: str = "",
        silent: Callable[[str], object] = lambda _bucket: None,
    ) -> list[Attestation]:
        """Ask as many buckets as are wanting for a quorum; the others too where those do not agree, or not soon.

        Once enough agree, those that are still asked have a moment longer. ``known`` is a bucket whose ``header`` is here already.
        ``silent`` is told each bucket that was asked in vain.
        Repeating: reads only. Cancellation: at any time.
        """
        told = _read(header) if known else []
        buckets = [bucket for bucket in self.registry.all_buckets if not told or bucket != known]
        if told:  # a comparison, which nobody waits for: without a task, until one says nothing
            said = told
            while said and buckets and len(told) < self.registry.threshold:
                said = await self._attestation(buckets.pop(0), handle, silent)
                told = told + said
            if self.agreed(handle, told):
                return told
        first = buckets[: self.registry.threshold - len(told)]
        awaited, answered = set(first), trio.Event()

        async def ask(bucket: str) -> None:
            told.extend(await self._attestation(bucket, handle, silent))
            awaited.discard(bucket)
            if not awaited:
                answered.set()
            if self.agreed(handle, told):
                nursery.cancel_scope.deadline = trio.current_time() + MOMENT

        async with trio.open_nursery() as nursery:
            for bucket in first:
                nursery.start_soon(ask, bucket)
            with trio.move_on_after(QUORUM_HEAD_START if first else 0):
                await answered.wait()
            if not self.agreed(handle, told):
                for bucket in buckets[len(first) :]:
                    nursery.start_soon(ask, bucket)
        return told

    def agreed(self, handle: bytes, told: Sequence[Attestation]) -> tuple[Attestation, ...]:
        """Return the attestations of a quorum that says the same, nothing when there is none."""
        threshold = self.registry.threshold
        return consensus(handle, told, self.registry.signers, threshold) if len(told) >= threshold else ()

    def mismatch(self, reference: CiphertextReference, told: Sequence[Attestation]) -> str:
        """Return why no quorum stands behind what the chain names; empty when one does."""
        group = self.agreed(reference.handle, told)
        if not group:
            return f"{len(told)} attestations were found, but no {self.registry.threshold} of them agree"
        said = group[0]
        if reference.is_bare:
            return ""
        if said.sns_ciphertext_digest != reference.digest:
            return f"attested is the digest 0x{said.sns_ciphertext_digest.hex()}, the chain names 0x{reference.digest.hex()}"
        if said.key_id != reference.key_id:
            return f"attested is the key 0x{said.key_id:x}, the chain names 0x{reference.key_id:x}"
        return ""

    async def attested(self, reference: CiphertextReference) -> tuple[CiphertextReference, Attestation]:
        """Return a reference as a quorum names it, and the attestation: of the bytes, only the buckets of those who said so are asked.

        Raises NotYet before the registry was read, NotAttested when no quorum stands behind it, NoCiphertext when every bucket answers
        that it has none, Unreachable when those that might do not answer. Repeating: reads only. Cancellation: at any time.
        """
        if not self.registry.threshold:
            raise NotYet("the registry of coprocessors is not known yet")
        silent: list[str] = []
        told = await self.told(reference.handle, silent=silent.append)
        if reason := self.mismatch(reference, told):
            raise self._fault(f"ciphertext {reference.handle.hex()} is not attested: {reason}", told, silent)
        group = self.agreed(reference.handle, told)
        said, senders = group[0], self.registry.senders_of({one.signer for one in group})
        named = CiphertextReference(reference.handle, said.key_id, said.sns_ciphertext_digest, senders)
        return named, said

    def _fault(self, text: str, told: Sequence[Attestation], silent: Sequence[str]) -> Unreachable:
        """Return the error for a ciphertext without a quorum: disagreement, no ciphertext anywhere, or buckets that say nothing.

        If fewer buckets answer than a quorum needs, no other ciphertext has a quorum either.
        """
        buckets, threshold = len(self.registry.all_buckets), self.registry.threshold
        answering = buckets - len(silent)
        for_all = answering < threshold
        if for_all:
            text = f"{text}; {answering} of {buckets} buckets answer, and a quorum needs {threshold}"
        if told:
            error: Unreachable = NotAttested(text)
        else:
            error = Unreachable(text) if silent else NoCiphertext(text)
        error.for_all = for_all
        return error

    async def _attestation(
        self, bucket: str, handle: bytes, silent: Callable[[str], object]
    ) -> list[Attestation]:
        """Return what a bucket's object says of itself, if anything: it is not allowed, silent, missing, without one, or unreadable."""
        with suppress(Retryable), trio.move_on_after(self.head_timeout):
            self.policy.check(bucket)
            response = await self.http.head(by_handle(bucket, handle))
            if response.status in _OK:
                return _read(response.headers.get(ATTESTATION_HEADER, ""))
            if response.status in _MISSING:
                return []
        silent(bucket)
        return []


def _read(header: str) -> list[Attestation]:
    try:
        return [parse_attestation(header)]
    except Undecodable:
        return []


Comparison = tuple[CiphertextReference, str, str]
"""A reference to look at, and what the bucket whose bytes were taken attests with them, if anything."""


@attrs.define
class Comparer:
    """Compares what coprocessors attest with what the chain names, beside the requests (attestation = "shadow").

    Over an HTTP client of its own it delays no request, and it decides about none: what does not hold is told, and that is all. So it
    takes no more of the processor than a sample needs: at high load ``COMPARISONS_PER_SECOND`` are looked at, what is left out is counted.
    """

    quorum: AttestationQuorum
    on_event: OnEvent
    skipped: int = 0
    """References that nobody looked at because too many waited."""
    _send: trio.MemorySendChannel[Comparison] = attrs.field(init=False)
    _receive: trio.MemoryReceiveChannel[Comparison] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Comparison](COMPARISON_BACKLOG)

    def hand(self, reference: CiphertextReference, found: Ciphertext) -> None:
        """Let a reference that was found be looked at when there is time for it; a bare one was found by its attestations."""
        if reference.is_bare:
            return
        try:
            self._send.send_nowait((reference, found.bucket, found.attestation))
        except trio.WouldBlock:
            self.skipped += 1

    async def run(self) -> None:
        """Look at what is handed over, for ever, once the registry is known. Cancellation: what waits is not looked at."""
        await self.quorum.registry.wait_loaded()
        async with trio.open_nursery() as nursery:
            for _ in range(COMPARISON_WORKERS):
                nursery.start_soon(self._worker)

    async def _worker(self) -> None:
        async for reference, bucket, header in self._receive.clone():
            started = trio.current_time()
            if reason := await self.mismatch(reference, bucket, header):
                self.on_event(AttestationMismatch(reference.handle, reason))
            await trio.sleep_until(started + COMPARISON_WORKERS / COMPARISONS_PER_SECOND)

    async def mismatch(self, reference: CiphertextReference, bucket: str = "", header: str = "") -> str:
        """Return why the coprocessors' quorum does not stand behind a reference; empty when it does.

        Repeating: reads only. Cancellation: at any time.
        """
        return self.quorum.mismatch(reference, await self.quorum.told(reference.handle, bucket, header))
