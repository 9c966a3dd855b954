"""Compares what coprocessors attest with what the chain names, beside the requests (RFC-023 in shadow mode; fhevm-0.14.md 4.5).

Never delays a request and never decides about one: what does not hold is told, and that is all. So what cannot be looked at in time
is left out and counted.
"""

from __future__ import annotations

import attrs
import trio

from kmsconn.ciphertexts.attestation import ATTESTATION_HEADER, Attestation, consensus, parse_attestation
from kmsconn.ciphertexts.registry import Registry
from kmsconn.ciphertexts.urls import BucketPolicy, by_handle
from kmsconn.errors import Retryable, Undecodable
from kmsconn.model.events import AttestationDoubted, OnEvent
from kmsconn.model.requests import Material
from kmsconn.net.http import HttpClient

WAITING = 1000  # materials: the handles of a burst of requests; at a bucket's 50 ms for a HEAD they are looked at in a quarter of a minute
MOMENT = 0.25  # seconds that a majority leaves the others: a question that is cut off costs its connection
WORKERS = 4  # materials looked at at once; each asks every bucket once
_OK = range(200, 300)


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
    _send: trio.MemorySendChannel[Material] = attrs.field(init=False)
    _receive: trio.MemoryReceiveChannel[Material] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Material](WAITING)

    def hand(self, material: Material) -> None:
        """Let a material be looked at when there is time for it."""
        try:
            self._send.send_nowait(material)
        except trio.WouldBlock:
            self.skipped += 1

    async def run(self) -> None:
        """Look at what is handed over, for ever, once the registry is known. Cancellation: what waits is not looked at."""
        await self.registry.wait_loaded()
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(self._worker)

    async def _worker(self) -> None:
        async for material in self._receive.clone():
            reason = await self.doubt(material)
            if reason:
                self.on_event(AttestationDoubted(material.handle, reason))

    async def doubt(self, material: Material) -> str:
        """Return why the coprocessors' majority does not stand behind a material; empty when it does.

        Repeating: reads only. Cancellation: at any time.
        """
        told = await self._told(material.handle)
        agreed = self._agreed(material.handle, told)
        if agreed is None:
            return f"{len(told)} attestations were found, no {self.registry.threshold} of them agree"
        if agreed.sns_ciphertext_digest != material.digest:
            return f"attested is the digest 0x{agreed.sns_ciphertext_digest.hex()}, the chain names 0x{material.digest.hex()}"
        if agreed.key_id != material.key_id:
            return f"attested is the key 0x{agreed.key_id:x}, the chain names 0x{material.key_id:x}"
        return ""

    async def _told(self, handle: bytes) -> list[Attestation]:
        """Ask every bucket at once, until enough of them agree, and a moment longer, or all have answered."""
        told: list[Attestation] = []

        async def ask(bucket: str) -> None:
            attestation = await self._attestation(bucket, handle)
            if attestation is not None:
                told.append(attestation)
                if self._agreed(handle, told):
                    nursery.cancel_scope.deadline = trio.current_time() + MOMENT

        async with trio.open_nursery() as nursery:
            for bucket in self.registry.all_buckets:
                nursery.start_soon(ask, bucket)
        return told

    def _agreed(self, handle: bytes, told: list[Attestation]) -> Attestation | None:
        threshold = self.registry.threshold
        return consensus(handle, told, self.registry.signers, threshold) if len(told) >= threshold else None

    async def _attestation(self, bucket: str, handle: bytes) -> Attestation | None:
        """Return what a bucket's object says of itself, or None: it is not allowed, silent, missing, without one, or unreadable."""
        try:
            self.policy.check(bucket)
            with trio.move_on_after(self.head_timeout):
                response = await self.http.head(by_handle(bucket, handle))
                if response.status in _OK:
                    return parse_attestation(response.headers.get(ATTESTATION_HEADER, ""))
        except (Retryable, Undecodable):
            pass
        return None
