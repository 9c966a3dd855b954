"""Compares what coprocessors attest with what the chain names, beside the requests (RFC-023 in shadow mode; fhevm-0.14.md 4.5).

Never delays a request and never decides about one: what does not hold is told, and that is all. So what cannot be looked at in time
is left out and counted.
"""

from __future__ import annotations

from contextlib import suppress

import attrs
import trio

from kmsconn.ciphertexts.attestation import ATTESTATION_HEADER, Attestation, consensus, parse_attestation
from kmsconn.ciphertexts.registry import Registry
from kmsconn.ciphertexts.urls import BucketPolicy, by_handle
from kmsconn.errors import Retryable, Undecodable
from kmsconn.model.events import AttestationDoubted, OnEvent
from kmsconn.model.requests import Material
from kmsconn.model.steps import Ciphertext
from kmsconn.net.http import HttpClient

WAITING = 1000  # materials: the handles of a burst of requests; at a bucket's 50 ms for a HEAD they are looked at in a quarter of a minute
MOMENT = 0.25  # seconds that a majority leaves the others: a question that is cut off costs its connection
PATIENCE = 0.25  # seconds for the buckets that are enough; then the others are asked too
WORKERS = 4  # materials looked at at once; each asks every bucket at most once
_OK = range(200, 300)


@attrs.frozen
class Look:
    """A material to look at, and what the bucket whose bytes were taken attests with them, if anything."""

    material: Material
    bucket: str = ""
    header: str = ""


@attrs.define
class Shadow:
    """Looks at materials one after the other, over an HTTP client of its own: a place that it takes there delays no download."""

    http: HttpClient
    registry: Registry
    policy: BucketPolicy
    head_timeout: float
    on_event: OnEvent
    skipped: int = 0
    """Materials that nobody looked at because too many waited."""
    _send: trio.MemorySendChannel[Look] = attrs.field(init=False)
    _receive: trio.MemoryReceiveChannel[Look] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Look](WAITING)

    def hand(self, material: Material, found: Ciphertext) -> None:
        """Let a material that was found be looked at when there is time for it."""
        try:
            self._send.send_nowait(Look(material, found.bucket, found.attestation))
        except trio.WouldBlock:
            self.skipped += 1

    async def run(self) -> None:
        """Look at what is handed over, for ever, once the registry is known. Cancellation: what waits is not looked at."""
        await self.registry.wait_loaded()
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(self._worker)

    async def _worker(self) -> None:
        async for look in self._receive.clone():
            reason = await self.doubt(look)
            if reason:
                self.on_event(AttestationDoubted(look.material.handle, reason))

    async def doubt(self, look: Look) -> str:
        """Return why the coprocessors' majority does not stand behind a material; empty when it does.

        Repeating: reads only. Cancellation: at any time.
        """
        material = look.material
        told = await self._told(look)
        agreed = self._agreed(material.handle, told)
        if agreed is None:
            return f"{len(told)} attestations were found, no {self.registry.threshold} of them agree"
        if agreed.sns_ciphertext_digest != material.digest:
            return f"attested is the digest 0x{agreed.sns_ciphertext_digest.hex()}, the chain names 0x{material.digest.hex()}"
        if agreed.key_id != material.key_id:
            return f"attested is the key 0x{agreed.key_id:x}, the chain names 0x{material.key_id:x}"
        return ""

    async def _told(self, look: Look) -> list[Attestation]:
        """Ask as many buckets as are wanting for a majority; the others too where those do not agree, or not soon.

        Once enough agree, those that are still asked have a moment longer.
        """
        handle = look.material.handle
        told = _read(look.header) if look.bucket else []
        buckets = [bucket for bucket in self.registry.all_buckets if not told or bucket != look.bucket]
        first = buckets[: self.registry.threshold - len(told)]
        awaited, answered = set(first), trio.Event()

        async def ask(bucket: str) -> None:
            told.extend(await self._attestation(bucket, handle))
            awaited.discard(bucket)
            if not awaited:
                answered.set()
            if self._agreed(handle, told):
                nursery.cancel_scope.deadline = trio.current_time() + MOMENT

        async with trio.open_nursery() as nursery:
            for bucket in first:
                nursery.start_soon(ask, bucket)
            with trio.move_on_after(PATIENCE if first else 0):
                await answered.wait()
            if not self._agreed(handle, told):
                for bucket in buckets[len(first) :]:
                    nursery.start_soon(ask, bucket)
        return told

    def _agreed(self, handle: bytes, told: list[Attestation]) -> Attestation | None:
        threshold = self.registry.threshold
        return consensus(handle, told, self.registry.signers, threshold) if len(told) >= threshold else None

    async def _attestation(self, bucket: str, handle: bytes) -> list[Attestation]:
        """Return what a bucket's object says of itself, if anything: it is not allowed, silent, missing, without one, or unreadable."""
        with suppress(Retryable), trio.move_on_after(self.head_timeout):
            self.policy.check(bucket)
            response = await self.http.head(by_handle(bucket, handle))
            if response.status in _OK:
                return _read(response.headers.get(ATTESTATION_HEADER, ""))
        return []


def _read(header: str) -> list[Attestation]:
    try:
        return [parse_attestation(header)]
    except Undecodable:
        return []
