"""Attestations compared beside the requests: what is reported and why, and that nobody ever waits for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from kmsconn.ciphertexts.attestation import ATTESTATION_HEADER, StoredFormat
from kmsconn.ciphertexts.places import BucketPolicy
from kmsconn.ciphertexts.quorum import (
    COMPARISON_BACKLOG,
    COMPARISON_WORKERS,
    COMPARISONS_PER_SECOND,
    QUORUM_HEAD_START,
    AttestationQuorum,
    Comparer,
    Comparison,
)
from kmsconn.emulator import buckets as bucket_faults
from kmsconn.emulator.buckets import BucketFaults, ObjectForm
from kmsconn.emulator.ciphertexts import attest, attestation_header, make_ciphertext, sign_attestation
from kmsconn.errors import NotYet
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.events import AttestationMismatch, Event
from kmsconn.model.life import Ciphertext
from kmsconn.model.requests import CiphertextReference
from tests.unit.ciphertexts.test_fetch import SENDERS, three_buckets

SIGNERS = [PrivateKey(bytes(31) + bytes([n])) for n in (1, 2, 3)]
STRANGER = PrivateKey(bytes(31) + b"\x09")
ONE = make_ciphertext("one", 7, 2, chain_id=5)
KEY = 4
REFERENCE = CiphertextReference(ONE.handle, KEY, ONE.digest, (SENDERS[0],))
FOUND = Ciphertext(ONE.handle, ONE.body, 2)
HEAD_TIMEOUT = 5.0


@attrs.define(eq=False)
class Place:
    """Three buckets whose quorum is two, and a shadow over them."""

    buckets: list[BucketFaults]
    shadow: Comparer
    events: list[Event]

    def store(self, index: int, signer: PrivateKey | None = None, **changes: Any) -> None:
        """Store the ciphertext in a bucket; ``changes`` are what its coprocessor attests otherwise."""
        signer = signer or SIGNERS[index]
        honest = attest(ONE, key_id=KEY, stored=StoredFormat.COMPRESSED_ON_CPU, signer=signer)
        said = sign_attestation(ONE.handle, attrs.evolve(honest, **changes), signer)
        headers = ((ATTESTATION_HEADER, attestation_header(said)),)
        self.buckets[index].bucket.put(ObjectForm.HANDLE.key(ONE), ONE.body, headers)

    @property
    def asked(self) -> list[int]:
        """How many questions each bucket heard."""
        return [sum(one.bucket.counts.values()) for one in self.buckets]

    def gathered(self, index: int) -> Comparison:
        """Return the reference as it came from a bucket, with what that one attests."""
        headers = dict(self.buckets[index].bucket.objects[ObjectForm.HANDLE.key(ONE)].headers)
        return (REFERENCE, f"http://bucket{index}/ct", headers[ATTESTATION_HEADER])

    def store_all(self, **changes: Any) -> None:
        for index in range(3):
            self.store(index, **changes)


@asynccontextmanager
async def open_place(policy: BucketPolicy = BucketPolicy(True, True)) -> AsyncIterator[Place]:
    events: list[Event] = []
    async with three_buckets(signers=[one.address for one in SIGNERS]) as (buckets, registry, http):
        registry.threshold = 2
        registry._loaded.set()
        quorum = AttestationQuorum(http, registry, policy, HEAD_TIMEOUT)
        yield Place(buckets, Comparer(quorum, events.append), events)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with open_place() as place:
        yield place


async def test_before_the_registry_was_read_nothing_is_said_of_a_ciphertext(place: Place) -> None:
    place.shadow.quorum.registry.threshold = 0
    with pytest.raises(NotYet, match="registry"):
        await place.shadow.quorum.attested(REFERENCE)


LIE: dict[str, Any] = {"sns_ciphertext_digest": bytes(32)}
NAKED, NONSENSE = ((REFERENCE, "http://bucket0/ct", header) for header in ("", "nonsense"))


@pytest.mark.parametrize(
    ("gathered", "threshold", "first", "asked"),
    [
        pytest.param((REFERENCE, "", ""), 2, "", [1, 1, 0], id="no more than a quorum needs"),
        pytest.param((REFERENCE, "", ""), 3, "", [1, 1, 1], id="every registered one, not only those of the event"),
        pytest.param((REFERENCE, "", ""), 2, "lies", [1, 1, 1], id="the others, when the first do not agree"),
        pytest.param(None, 2, "", [0, 1, 0], id="not again what came with the bytes"),
        pytest.param(None, 1, "", [0, 0, 0], id="nobody, where one is enough"),
        pytest.param(None, 2, "left", [0, 1, 1], id="another for one that left the registry"),
        pytest.param(NAKED, 2, "", [1, 1, 0], id="like any other, where the bytes came without"),
        pytest.param(NONSENSE, 2, "", [1, 1, 0], id="and where they came with nonsense"),
    ],
)  # fmt: skip
async def test_as_many_buckets_are_asked_as_a_quorum_needs_and_nothing_is_reported(
    place: Place, gathered: Comparison | None, threshold: int, first: str, asked: list[int]
) -> None:
    place.store_all()
    look = gathered or place.gathered(0)
    place.shadow.quorum.registry.threshold = threshold
    if first == "lies":
        place.store(0, **LIE)
    if first == "left":
        del place.shadow.quorum.registry._coprocessors[SENDERS[0]]
    assert await place.shadow.mismatch(*look) == ""
    assert place.asked == asked
    assert trio.current_time() < QUORUM_HEAD_START


async def test_what_came_with_the_bytes_counts_like_any_other(place: Place) -> None:
    place.store_all()
    place.store(0, sns_ciphertext_digest=bytes(32))
    look = place.gathered(0)
    assert await place.shadow.mismatch(*look) == ""
    place.store(1, sns_ciphertext_digest=bytes(32))
    assert "the chain names" in await place.shadow.mismatch(*look)


@pytest.mark.parametrize("changes", [{}, LIE], ids=["honest", "lying"])
async def test_others_are_asked_when_the_first_take_their_time(place: Place, changes: dict[str, Any]) -> None:
    place.store_all()
    place.store(0, **changes)
    place.buckets[0].bucket.latency = HEAD_TIMEOUT
    assert await place.shadow.mismatch(REFERENCE) == ""
    assert trio.current_time() < 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"sns_ciphertext_digest": b"\x05" * 32}, "0x" + "05" * 32), ({"key_id": 0xBEEF}, "0xbeef")],
    ids=["digest", "key"],
)
async def test_quorum_for_something_else_is_named(place: Place, changes: dict[str, Any], named: str) -> None:
    place.store_all(**changes)
    reason = await place.shadow.mismatch(REFERENCE)
    assert named in reason
    assert "the chain names" in reason


@pytest.mark.parametrize("header", ["", "{}", "nonsense"])
async def test_what_cannot_be_read_is_none(place: Place, header: str) -> None:
    place.store(0)
    for index in (1, 2):
        place.buckets[index].bucket.put(
            ObjectForm.HANDLE.key(ONE), ONE.body, ((ATTESTATION_HEADER, header),) if header else ()
        )
    assert "1 attestations were found" in await place.shadow.mismatch(REFERENCE)


@pytest.mark.parametrize(
    "fault",
    [bucket_faults.RefusingBucket(code=404), bucket_faults.RefusingBucket(code=503)],
    ids=["404", "503"],
)
async def test_a_bucket_that_fails_is_left_out(place: Place, fault: bucket_faults.BucketFault) -> None:
    place.store_all()
    place.buckets[0].script(fault)
    assert await place.shadow.mismatch(REFERENCE) == ""
    place.buckets[0].script(fault)
    place.buckets[1].script(fault)
    assert "1 attestations were found" in await place.shadow.mismatch(REFERENCE)


async def test_a_bucket_that_hangs_is_given_its_time_and_no_more(place: Place) -> None:
    place.store(0)
    for index in (1, 2):
        place.buckets[index].bucket.latency = 3600.0
    assert await place.shadow.mismatch(REFERENCE)
    assert trio.current_time() == pytest.approx(HEAD_TIMEOUT, abs=0.5)


@pytest.mark.parametrize("policy", [BucketPolicy(allow_http=False)], ids=["http"])
async def test_a_bucket_that_is_not_allowed_is_not_asked(policy: BucketPolicy) -> None:
    async with open_place(policy) as place:
        place.store_all()
        assert await place.shadow.mismatch(REFERENCE)
        assert place.asked == [0, 0, 0]


async def test_handing_over_never_waits_and_what_is_too_much_is_counted(place: Place) -> None:
    for _ in range(COMPARISON_BACKLOG + 7):
        place.shadow.hand(REFERENCE, FOUND)
    assert place.shadow.skipped == 7


async def test_mismatches_are_told_with_their_handle(place: Place) -> None:
    place.store_all(sns_ciphertext_digest=bytes(32))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.shadow.run)
        for _ in range(20):
            place.shadow.hand(REFERENCE, FOUND)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert len(place.events) == 20
    assert all(
        isinstance(event, AttestationMismatch) and event.handle == ONE.handle for event in place.events
    )


@asynccontextmanager
async def looking(place: Place, references: int, seconds: float) -> AsyncIterator[int]:
    """Hand references over, evenly in time, and give how many were looked at meanwhile."""
    place.store_all(sns_ciphertext_digest=bytes(32))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.shadow.run)
        for _ in range(references):
            place.shadow.hand(REFERENCE, FOUND)
            await trio.sleep(seconds / references)
        yield len(place.events)
        nursery.cancel_scope.cancel()


async def test_at_low_load_every_reference_is_looked_at(place: Place) -> None:
    async with looking(place, COMPARISONS_PER_SECOND * 30 // 2, 30) as looked_at:
        assert looked_at == COMPARISONS_PER_SECOND * 30 // 2
        assert place.shadow.skipped == 0


@pytest.mark.slow
async def test_under_load_a_share_is_looked_at_and_the_rest_counted(place: Place) -> None:
    async with looking(place, 10 * COMPARISON_BACKLOG, 30) as looked_at:
        assert looked_at == pytest.approx(COMPARISONS_PER_SECOND * 30, abs=COMPARISONS_PER_SECOND)
        assert place.shadow.skipped == pytest.approx(
            9 * COMPARISON_BACKLOG - looked_at, abs=COMPARISONS_PER_SECOND
        )


@pytest.mark.slow
@pytest.mark.parametrize("latency", [0.1, COMPARISON_WORKERS / COMPARISONS_PER_SECOND])
async def test_looks_that_take_their_time_are_no_fewer(place: Place, latency: float) -> None:
    place.shadow.quorum.registry.threshold = 3  # each look waits for all buckets
    for one in place.buckets:
        one.bucket.latency = latency
    async with looking(place, COMPARISONS_PER_SECOND * 50, 30) as looked_at:
        assert looked_at == pytest.approx(COMPARISONS_PER_SECOND * 30, abs=COMPARISON_WORKERS)


async def test_under_load_what_is_looked_at_is_of_the_last_seconds(place: Place) -> None:
    """A backlog that is worked off in order must be short: a coprocessor may have forgotten what was asked for a minute ago."""
    async with looking(place, 40 * COMPARISONS_PER_SECOND, 10):
        told = len(place.events)
        await trio.sleep(9)
        waited = len(place.events) - told
        assert waited == pytest.approx(COMPARISON_BACKLOG, abs=COMPARISON_WORKERS)


@pytest.mark.slow
async def test_a_burst_waits_and_is_looked_at_in_time(place: Place) -> None:
    async with looking(place, COMPARISON_BACKLOG, 1) as at_once:
        assert at_once <= 2 * COMPARISONS_PER_SECOND
        await trio.sleep(COMPARISON_BACKLOG / COMPARISONS_PER_SECOND)
        assert len(place.events) == COMPARISON_BACKLOG
        assert place.shadow.skipped == 0
