"""Compares what coprocessors attest with what the chain names, beside the requests (RFC-023 in shadow mode; fhevm-0.14.md 4.5).

Never delays a request and never decides about one: what does not hold is told, and that is all. So it takes no more of the processor
than a sample needs: at low load everything is looked at, at high load a share, and what is left out is counted.
"""

from __future__ import annotations

import attrs
import trio

from kmsconn.ciphertexts.quorum import AttestationQuorum
from kmsconn.model.events import AttestationMismatch, OnEvent
from kmsconn.model.requests import CiphertextReference
from kmsconn.model.steps import Ciphertext

COMPARISONS_PER_SECOND = 20
"""References compared, at most: each costs HEADs and signatures to recover; a coprocessor that attests wrongly shows in a share too."""
COMPARISON_BACKLOG = 8 * COMPARISONS_PER_SECOND
"""References that wait, at most: each is looked at within eight seconds, so that what is told is about a request of now."""
COMPARISON_WORKERS = 4  # references looked at at once; each asks every bucket at most once


@attrs.frozen
class Comparison:
    """A reference to look at, and what the bucket whose bytes were taken attests with them, if anything."""

    reference: CiphertextReference
    bucket: str = ""
    header: str = ""


@attrs.define
class Shadow:
    """Looks at references, ``COMPARISONS_PER_SECOND`` at most, over an HTTP client of its own: it delays no download."""

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
            self._send.send_nowait(Comparison(reference, found.bucket, found.attestation))
        except trio.WouldBlock:
            self.skipped += 1

    async def run(self) -> None:
        """Look at what is handed over, for ever, once the registry is known. Cancellation: what waits is not looked at."""
        await self.quorum.registry.wait_loaded()
        async with trio.open_nursery() as nursery:
            for _ in range(COMPARISON_WORKERS):
                nursery.start_soon(self._worker)

    async def _worker(self) -> None:
        async for look in self._receive.clone():
            started = trio.current_time()
            reason = await self.mismatch(look)
            if reason:
                self.on_event(AttestationMismatch(look.reference.handle, reason))
            await trio.sleep_until(started + COMPARISON_WORKERS / COMPARISONS_PER_SECOND)

    async def mismatch(self, look: Comparison) -> str:
        """Return why the coprocessors' quorum does not stand behind a reference; empty when it does.

        Repeating: reads only. Cancellation: at any time.
        """
        told = await self.quorum.told(look.reference.handle, look.bucket, look.header)
        return self.quorum.mismatch(look.reference, told)
