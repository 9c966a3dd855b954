"""Fetches the ciphertexts of a request: every bucket that has one, every way to it, the digest checked, a cap on size (4.3)."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import chain

import attrs
import trio

from kmsconn.ciphertexts.attestation import ATTESTATION_HEADER, Attestation, ciphertext_format
from kmsconn.ciphertexts.budget import SILENCE, SLOWEST, Attempt, Lease
from kmsconn.ciphertexts.places import BucketPolicy
from kmsconn.ciphertexts.quorum import AttestationQuorum
from kmsconn.ciphertexts.sources import (
    Body,
    BucketStanding,
    CandidateBucket,
    CiphertextSource,
    Open,
    Race,
    Sources,
)
from kmsconn.errors import NotYet, Overloaded, Retryable, Unreachable
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.life import Ciphertext
from kmsconn.model.requests import CiphertextReference
from kmsconn.transport.http import Asked
from kmsconn.transport.ports import Offload
from kmsconn.transport.urls import show_origin
from kmsconn.transport.waiting import together

HEDGE = 1.0  # seconds without a result after which the next bucket is asked too
HASH_INLINE = 64 * 1024  # bytes; hashing more takes over 0.2 ms and is moved off the loop
MOST = 64  # buckets with a count of their own; the others share one
OTHERS = "others"

_OK = range(200, 300)
_REFUSED = frozenset(range(400, 500)) - {408, 429}  # not: it is busy


class ObjectRefused(Unreachable):
    """A bucket answers, and does not give this object; it may well give others."""


@attrs.define
class BucketCounts:
    """Attempts and failures by the origin of a bucket, ``MOST`` origins at most; ``fetched`` counts ciphertexts, whatever their bucket."""

    fetched: int = 0
    attempts: Counter[str] = attrs.field(factory=Counter)
    failures: Counter[str] = attrs.field(factory=Counter)

    def tried(self, url: str) -> str:
        """Count an attempt, and return the name under which its failure is counted."""
        origin = show_origin(url)
        name = origin if origin in self.attempts or len(self.attempts) < MOST else OTHERS
        self.attempts[name] += 1
        return name


@attrs.define
class Fetcher:
    """Fetches from wherever ``sources`` says, as far as the policy allows.

    ``mismatch`` is told a handle and why when a bucket holds other bytes than the chain names; ``tolerant``: they are used all the same.
    """

    sources: Sources
    policy: BucketPolicy
    offload: Offload
    max_size: int
    mismatch: Callable[[bytes, str], None] = lambda _handle, _reason: None
    tolerant: bool = False
    counts: BucketCounts = attrs.field(factory=BucketCounts)
    quorum: AttestationQuorum | None = None
    """Names key, digest, format and buckets where that is ``enforced``, and where the chain names a handle only (annex C)."""
    enforced: bool = False
    standing: BucketStanding = attrs.field(factory=BucketStanding)

    async def fetch(self, reference: CiphertextReference, lease: Lease) -> Ciphertext:
        """Fetch one as ``fetch_all`` does."""
        return (await self.fetch_all([reference], lease))[0]

    async def fetch_all(self, references: Sequence[CiphertextReference], lease: Lease) -> list[Ciphertext]:
        """Return the ciphertexts whose Keccak-256 the chain names; their bytes are held under ``lease``.

        Each first bucket is asked, then what they send is read, all in one task; what waits for a place at its bucket is asked when the
        others are read. Another bucket is asked after a failure, or when ``HEDGE`` seconds have passed; all are asked at once where one
        of them must be dialled.

        Raises NotYet when no bucket of its coprocessors is known, Unreachable when every candidate failed, each with its reason, or no
        quorum attests what must be attested, Misconfigured when the operator's policy forbids every one of them.
        Repeating: reads only.
        """
        now = trio.current_time()
        steps = [partial(self._search, one, lease, now) for one in references]
        at_once = self.sources.at_hand and (
            self.quorum is None or not (self.enforced or any(one.is_bare for one in references))
        )
        searches = [await step() for step in steps] if at_once else await together(steps)
        try:
            alone = len(searches) == 1 and len(searches[0].race.ways) > 1
            if now >= self.standing.calm_from and (alone or await self._ask_ahead(searches)):
                with trio.move_on_after(HEDGE) as first:
                    # those asked ahead first: who waits for a place holds none
                    for one in sorted(searches, key=lambda one: not one.ahead):
                        one.race.begun = True
                        await one.race.go(one.first)
                for one in searches:  # all were asked, whichever held the others up
                    one.race.begun |= first.cancelled_caught
            await together([one.race.run for one in searches if not one.race.won])
        finally:
            for asked in [asked for one in searches for _, asked in one.ahead]:
                await asked.aclose()  # noqa: ASYNC102 - shields itself, with a deadline
        self.counts.fetched += len(searches)
        return [
            one.race.won[0]
            if (said := one.attested) is None
            else attrs.evolve(one.race.won[0], format=said.format.as_core, key_id=said.key_id)
            for one in searches
        ]

    async def _search(self, reference: CiphertextReference, lease: Lease, now: float) -> _Search:
        attested = None
        if self.quorum is not None and (self.enforced or reference.is_bare):
            reference, attested = await self.quorum.attested(reference)
        buckets = self.standing.in_turn(await self.sources.of(reference), now)
        if not buckets:
            raise NotYet("no bucket is known for the coprocessors of a ciphertext")
        ahead: list[_Ahead] = []
        ways = [partial(self._from_bucket, bucket, reference, lease) for bucket in buckets]
        ways[0] = partial(ways[0], ahead=ahead)
        return _Search(buckets[0], partial(ways[0], hedged=True), Race(ways, HEDGE), ahead, attested)

    async def _ask_ahead(self, searches: Sequence[_Search]) -> bool:
        """Ask each first bucket that has a place; say whether no search needs a task of its own."""
        for one in searches:
            others = iter(one.bucket.ways())
            source = next(others)
            if len(one.race.ways) == 1 or source.ahead is None:
                return False
            try:
                self.policy.check(source.address)
                asked = await source.ahead()
            except Overloaded:
                continue
            except Retryable:
                return False
            if asked is None:
                return False
            one.ahead.append((chain([source], others), asked))
        return True

    async def _from_bucket(
        self,
        bucket: CandidateBucket,
        reference: CiphertextReference,
        lease: Lease,
        *,
        ahead: list[_Ahead] | None = None,
        hedged: bool = False,
    ) -> Ciphertext:
        # What was said, not the errors: they would hold this frame, and it them with what they had read.
        said: list[str] = []
        sources, asked = ahead.pop() if ahead else (bucket.ways(), None)
        lost = 0  # ways that led to nothing, not even a refusal; the one under way counts, since a faster bucket cancels it
        try:
            for source in sources:
                if asked is None:
                    self.policy.check(source.address)
                    asking = source.open
                else:
                    asking, asked = partial(source.open, asked=asked), None
                name = self.counts.tried(source.address)
                lost += 1
                try:
                    found = await self._object(source, asking, reference, lease, hedged=hedged)
                except (Unreachable, Overloaded) as error:
                    said.append(str(error))
                    self.counts.failures[name] += 1
                    lost -= isinstance(error, ObjectRefused)
                else:
                    lost = 0
                    self.standing.gave(bucket.address)
                    self.sources.found(bucket.address, source)
                    return found
        finally:
            if lost:
                self.standing.gave_nothing(bucket.address, trio.current_time())
        raise Unreachable("; ".join(said))

    async def _object(
        self,
        source: CiphertextSource,
        asking: Open,
        reference: CiphertextReference,
        lease: Lease,
        *,
        hedged: bool,
    ) -> Ciphertext:
        size = 0
        while True:  # anew once there are bytes for it
            # who waits less than a bucket may be silent watches no silence
            with Attempt(lease, None if hedged else trio.CancelScope(), source.address) as attempt:
                if size:
                    await attempt.reserve(size)
                found = await self._try(source, asking, reference, attempt)
            if found is not None:
                return found
            size, asking = attempt.wanted, source.open

    async def _try(
        self, source: CiphertextSource, asking: Open, reference: CiphertextReference, attempt: Attempt
    ) -> Ciphertext | None:
        """Ask once, read and check; None where the bytes do not fit."""
        with attempt.silence or nullcontext():
            async with await asking(max_bytes=self.max_size, begun=attempt.watch) as response:
                if response.status not in _OK:
                    error = ObjectRefused if response.status in _REFUSED else Unreachable
                    raise error(f"{source.shown} answered {response.status}")
                body = await _read(response, attempt)
        if attempt.silence is not None and attempt.silence.cancelled_caught:
            raise Unreachable(
                f"{source.shown} fell silent for {SILENCE:g} s, or sent less than {SLOWEST} bytes a second"
            )
        if body is None:
            # without a length twice as many, or each piece might cost another answer
            attempt.wanted = response.announced or min(2 * attempt.wanted, self.max_size)
            return None
        if len(body) <= HASH_INLINE:
            digest = keccak256(body)
        else:
            work: Callable[[], bytes] = partial(keccak256, body)
            digest = await self.offload("keccak", work)
        if digest != reference.digest:
            self._refuse(source, reference, digest)
        attempt.held -= len(body)  # the lease has them
        headers = response.headers
        stored, attestation = ciphertext_format(headers), headers.get(ATTESTATION_HEADER, "")
        return Ciphertext(reference.handle, body, stored, source.attested_by, attestation)

    def _refuse(self, source: CiphertextSource, reference: CiphertextReference, digest: bytes) -> None:
        """Raise Unreachable for bytes with another digest, unless they are tolerated; tell in any case."""
        reason = (
            f"{source.shown} holds other bytes than the chain names: "
            f"their digest is {digest.hex()}, not {reference.digest.hex()}"
        )
        if not self.tolerant:
            self.mismatch(reference.handle, reason)
            raise Unreachable(reason)
        self.mismatch(reference.handle, f"{reason}; used nevertheless, because of tolerant_digests")


_Ahead = tuple[Iterator[CiphertextSource], Asked]
"""The ways to a bucket of which the first was asked, and what was sent."""


@attrs.define(eq=False)
class _Search:
    """The search for one ciphertext: its first bucket, the ways to it, what was asked ahead, and what a quorum attests."""

    bucket: CandidateBucket
    first: Callable[[], Awaitable[Ciphertext]]
    """The way to the first bucket, for who waits no longer than ``HEDGE``."""
    race: Race[Ciphertext]
    ahead: list[_Ahead]
    attested: Attestation | None
    """What says format and key of what is found."""


async def _read(response: Body, attempt: Attempt) -> bytes | None:
    """Read a body within the budget and at its least pace; None where it does not fit.

    An announced length is reserved at once; bytes beyond it, or without one, as they arrive.
    """
    if not await attempt.grow(max((response.announced or 0) - attempt.held, 0)):
        return None
    if response.whole:
        return response.whole
    attempt.begun = trio.current_time()
    attempt.watch()
    # Its bytes are let go of here when the read fails, not with the error's frames.
    with io.BytesIO() as body:
        async for chunk in response:
            body.write(chunk)
            if (more := body.tell() - attempt.held) > 0 and not await attempt.grow(more):
                return None
            attempt.watch(body.tell())
        return body.getvalue()
