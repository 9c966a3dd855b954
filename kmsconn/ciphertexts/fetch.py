"""Fetches one ciphertext: every bucket that has it, both object forms, the digest checked, a cap on size and on silence (4.3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import attrs
import trio

from kmsconn.ciphertexts.attestation import ATTESTATION_HEADER, ciphertext_format
from kmsconn.ciphertexts.budget import Attempt, Lease
from kmsconn.ciphertexts.port import Directory
from kmsconn.ciphertexts.racing import first_success
from kmsconn.ciphertexts.urls import BucketPolicy, by_digest, by_handle
from kmsconn.errors import NotYet, Unreachable
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import Material
from kmsconn.model.steps import Ciphertext
from kmsconn.net.http import Download, HttpClient
from kmsconn.net.ports import Offload
from kmsconn.net.urls import show

HEDGE = 1.0  # seconds without a result after which the next bucket is asked too
SILENCE = 10.0  # seconds without a byte after which a bucket counts as hung
HASH_INLINE = 64 * 1024  # bytes; hashing more takes over 0.2 ms and is moved off the loop

_OK = range(200, 300)


@attrs.define
class Fetcher:
    """Fetches through one HTTP client; remembers which form of object a bucket answered last."""

    http: HttpClient
    directory: Directory
    policy: BucketPolicy
    offload: Offload
    max_size: int
    _prefers_digest: set[str] = attrs.field(factory=set)

    async def fetch(self, material: Material, lease: Lease) -> Ciphertext:
        """Return the ciphertext whose Keccak-256 the chain names; its bytes are held under ``lease``.

        Raises NotYet when no bucket of its coprocessors is known, Unreachable when every candidate failed, each with its reason,
        Misconfigured when the operator's policy forbids every one of them.
        Repeating: reads only.
        """
        buckets = await self.directory.find(material.coprocessors)
        if not buckets:
            raise NotYet("no bucket is known for the coprocessors of a ciphertext")
        ways = [partial(self._from_bucket, bucket, material, lease) for bucket in buckets]
        return await first_success(ways, HEDGE)

    async def _from_bucket(self, bucket: str, material: Material, lease: Lease) -> Ciphertext:
        self.policy.check(bucket)
        first, second = (True, False) if bucket in self._prefers_digest else (False, True)
        try:
            return await self._object(bucket, material, lease, digest_form=first)
        except Unreachable as error:
            found = await self._second(bucket, material, lease, digest_form=second, first_error=error)
        (self._prefers_digest.add if second else self._prefers_digest.discard)(bucket)
        return found

    async def _second(
        self, bucket: str, material: Material, lease: Lease, *, digest_form: bool, first_error: Unreachable
    ) -> Ciphertext:
        try:
            return await self._object(bucket, material, lease, digest_form=digest_form)
        except Unreachable as error:
            raise Unreachable(f"{first_error}; {error}") from error

    async def _object(
        self, bucket: str, material: Material, lease: Lease, *, digest_form: bool
    ) -> Ciphertext:
        url = by_digest(bucket, material.digest) if digest_form else by_handle(bucket, material.handle)
        with lease.attempt() as attempt:
            found = await self._try(url, material, attempt, "" if digest_form else bucket)
            attempt.keep()
        return found

    async def _try(self, url: str, material: Material, attempt: Attempt, bucket: str) -> Ciphertext:
        with trio.CancelScope() as silence:
            begun = partial(_heard, silence)
            async with self.http.stream_get(url, max_bytes=self.max_size, begun=begun) as response:
                if response.status not in _OK:
                    raise Unreachable(f"{show(url)} answered {response.status}")
                body = await _read(response, attempt, silence)
            if await self._digest(body) != material.digest:
                raise Unreachable(f"{show(url)} holds other bytes than the chain names")
            attestation = response.headers.get(ATTESTATION_HEADER, "")
            return Ciphertext(material.handle, body, ciphertext_format(response.headers), bucket, attestation)
        raise Unreachable(f"{show(url)} fell silent for {SILENCE:g} s")

    async def _digest(self, body: bytes) -> bytes:
        if len(body) <= HASH_INLINE:
            return keccak256(body)
        work: Callable[[], bytes] = partial(keccak256, body)
        return await self.offload("keccak", work)


async def _read(response: Download, attempt: Attempt, silence: trio.CancelScope) -> bytes:
    """Read a body within the budget; waiting for the budget is no silence of the bucket."""
    silence.deadline = math.inf
    await attempt.reserve(response.announced or 0)
    _heard(silence)
    chunks: list[bytes] = []
    async for chunk in response:
        chunks.append(chunk)
        _heard(silence)
    silence.deadline = math.inf
    body = b"".join(chunks)
    await attempt.reserve(max(0, len(body) - attempt.held))
    return body


def _heard(silence: trio.CancelScope) -> None:
    silence.deadline = trio.current_time() + SILENCE
