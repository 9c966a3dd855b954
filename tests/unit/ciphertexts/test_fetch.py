"""Fetching one ciphertext from emulated buckets: forms, order, digest, format, caps, cancellation, repetition."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import attrs
import pytest
import trio

from kmsconn.ciphertexts.attestation import BIG_COMPRESSED, BIG_EXPANDED, StoredFormat
from kmsconn.ciphertexts.budget import SILENCE, SLOWEST, Attempt, ByteBudget, Lease
from kmsconn.ciphertexts.fetch import HASH_INLINE, HEDGE, MOST, OTHERS, BucketCounts, Fetcher
from kmsconn.ciphertexts.places import BucketPolicy
from kmsconn.ciphertexts.registry import Registry
from kmsconn.ciphertexts.sources import AGAIN, BothForms
from kmsconn.emulator import buckets as bucket_faults
from kmsconn.emulator.buckets import BucketFaults, EmulatedBucket, ObjectForm
from kmsconn.emulator.ciphertexts import EmulatedCiphertext, make_ciphertext
from kmsconn.emulator.http import HttpRequest, HttpResponse, Send
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.errors import NotYet, Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.events import ignore
from kmsconn.model.life import Ciphertext
from kmsconn.model.requests import CiphertextReference
from kmsconn.protocols.profile import Coprocessor
from kmsconn.testing.endings import cancel_everywhere
from kmsconn.transport.http import HttpClient, open_http
from kmsconn.transport.ports import Offload, Ports, offload_inline

T = TypeVar("T")

SENDERS = [Address(bytes([n]) * 20) for n in (1, 2, 3)]
SIGNER = PrivateKey(bytes(31) + b"\x05")
SMALL = make_ciphertext("small", 7, 2, chain_id=5)
MAX = 1 << 20


@attrs.define(eq=False)
class Buckets:
    """Three buckets, a fetcher, and what was moved off the loop."""

    buckets: list[BucketFaults]
    fetcher: Fetcher
    budget: ByteBudget
    uses: list[str]

    def publish(
        self, one: EmulatedCiphertext, *indices: int, form: ObjectForm = ObjectForm.HANDLE, **options: Any
    ) -> None:
        """Store a ciphertext in some buckets, or in all."""
        for index in indices or range(3):
            self.buckets[index].bucket.publish(one, signer=SIGNER, key_id=1, forms=(form,), **options)

    async def fetch(
        self, one: EmulatedCiphertext = SMALL, senders: Sequence[Address] = SENDERS
    ) -> Ciphertext:
        """Fetch as a request would."""
        with Lease(self.budget) as lease:
            found = await self.fetcher.fetch(
                CiphertextReference(one.handle, 1, one.digest, tuple(senders)), lease
            )
            assert self.budget.used == len(found.body)
        assert self.budget.used == 0
        return found

    @property
    def asked(self) -> list[int]:
        """How many requests each bucket answered."""
        return [sum(one.bucket.counts.values()) for one in self.buckets]


def reference(one: EmulatedCiphertext, senders: Sequence[Address] = SENDERS[:1]) -> CiphertextReference:
    """Return how a request names a ciphertext."""
    return CiphertextReference(one.handle, 1, one.digest, tuple(senders))


@asynccontextmanager
async def three_buckets(
    offload: Offload = offload_inline, signers: Sequence[Address] = SENDERS
) -> AsyncIterator[tuple[list[BucketFaults], Registry, HttpClient]]:
    """Serve a bucket for each of three registered coprocessors, and open what asks them."""
    network = MemoryNetwork()
    buckets = [BucketFaults(EmulatedBucket("/ct")) for _ in SENDERS]
    for index, bucket in enumerate(buckets):
        network.serve(f"bucket{index}", 80, bucket.serve)
    registry = Registry(None, None, 60.0, ignore)  # type: ignore[arg-type]
    registry._coprocessors = {
        sender: Coprocessor(sender, signer, f"http://bucket{index}/ct")
        for index, (sender, signer) in enumerate(zip(SENDERS, signers, strict=True))
    }
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        async with open_http(Ports(network, offload, lambda: 0.0, lambda: 0.5)) as http:
            yield buckets, registry, http
        nursery.cancel_scope.cancel()
    assert network.crashes == []


@pytest.fixture
async def there() -> AsyncIterator[Buckets]:
    uses: list[str] = []

    async def offload(use: str, work: Callable[[], T]) -> T:
        uses.append(use)
        await trio.lowlevel.checkpoint()
        return work()

    async with three_buckets(offload) as (buckets, registry, http):
        fetcher = Fetcher(BothForms(http, registry.find), BucketPolicy(True, True), offload, MAX)
        yield Buckets(buckets, fetcher, ByteBudget(MAX), uses)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (StoredFormat.UNCOMPRESSED_ON_CPU, BIG_EXPANDED),
        (StoredFormat.COMPRESSED_ON_CPU, BIG_COMPRESSED),
        (StoredFormat.COMPRESSED_ON_GPU, BIG_COMPRESSED),
    ],
)
async def test_a_ciphertext_comes_with_its_body_and_format(
    there: Buckets, stored: StoredFormat, expected: int
) -> None:
    there.publish(SMALL, stored=stored)
    for times in (1, 2):
        assert await there.fetch() == Ciphertext(SMALL.handle, SMALL.body, expected)
        assert there.asked == [times, 0, 0]


async def test_the_order_of_the_event_is_the_order_of_asking(there: Buckets) -> None:
    there.publish(SMALL)
    await there.fetch(senders=SENDERS[::-1])
    assert there.asked == [0, 0, 1]


async def test_a_bucket_without_the_first_form_is_asked_for_the_second_and_first_from_then_on(
    there: Buckets,
) -> None:
    there.publish(SMALL, form=ObjectForm.DIGEST)
    assert (await there.fetch()).body == SMALL.body
    assert there.asked == [2, 0, 0]
    await there.fetch()
    assert there.asked == [3, 0, 0]
    there.buckets[0].bucket.objects.clear()
    there.publish(SMALL, 0)
    await there.fetch()
    await there.fetch()
    assert there.asked == [6, 0, 0]


TROUBLES = [
    bucket_faults.RefusingBucket(code=403),
    bucket_faults.RefusingBucket(code=404),
    bucket_faults.RefusingBucket(code=500),
    bucket_faults.RefusingBucket(code=503),
    bucket_faults.SpoiledBodies(how="wrong bytes"),
    bucket_faults.SpoiledBodies(how="shorter"),
    bucket_faults.SpoiledBodies(how="longer"),
    bucket_faults.SpoiledBodies(how="empty"),
    bucket_faults.SpoiledBodies(how="truncated"),
    bucket_faults.SpoiledBodies(how="hang up"),
    bucket_faults.OversizedBodies(bytes=2 * MAX, announced=True),
    bucket_faults.OversizedBodies(bytes=2 * MAX, announced=False),
    bucket_faults.RedirectingBucket(location="http://elsewhere/ct"),
]


@pytest.mark.parametrize("fault", TROUBLES, ids=lambda fault: fault.label)
async def test_a_bucket_in_trouble_costs_only_the_time_to_ask_the_next(
    there: Buckets, fault: bucket_faults.BucketFault
) -> None:
    there.publish(SMALL)
    there.buckets[0].script(fault, fault)
    assert (await there.fetch()).body == SMALL.body
    assert trio.current_time() < HEDGE
    assert there.buckets[0].counts[fault.label] == 2


@pytest.mark.parametrize("fault", TROUBLES, ids=lambda fault: fault.label)
async def test_when_every_bucket_is_in_trouble_each_reason_is_told(
    there: Buckets, fault: bucket_faults.BucketFault
) -> None:
    there.publish(SMALL)
    for bucket in there.buckets:
        bucket.script(fault, fault)
    with pytest.raises(Unreachable) as caught:
        await there.fetch()
    for index in range(3):
        assert f"bucket{index}" in str(caught.value)
    assert there.budget.used == 0
    assert (await there.fetch()).body == SMALL.body


async def test_where_all_are_slow_only_the_first_fetch_begins_anew(there: Buckets) -> None:
    there.publish(SMALL)
    for number, bucket in enumerate(there.buckets):
        bucket.bucket.latency = (1.5 + number) * HEDGE
    took = []
    for _ in range(3):
        begun = trio.current_time()
        await there.fetch()
        took.append(trio.current_time() - begun)
    assert took == pytest.approx([2.5 * HEDGE, 1.5 * HEDGE, 1.5 * HEDGE])


SILENT = bucket_faults.StalledBodies(after=0)
BUSY = bucket_faults.RefusingBucket(code=429)
LOSSES = [
    SILENT,
    bucket_faults.SpoiledBodies(how="hang up"),
    bucket_faults.SpoiledBodies(how="wrong bytes"),
    BUSY,
]


@pytest.mark.parametrize("fault", LOSSES, ids=lambda fault: fault.label)
async def test_a_bucket_that_gave_nothing_is_asked_behind_the_others(
    there: Buckets, fault: bucket_faults.BucketFault
) -> None:
    """One that is silent would cost every ciphertext the time until the next one is asked too."""
    there.publish(SMALL)
    there.buckets[0].strike(fault)
    await there.fetch()
    begun, struck = trio.current_time(), there.buckets[0].counts[fault.label]
    for _ in range(3):
        await there.fetch()
    assert trio.current_time() < begun + HEDGE
    assert there.buckets[0].counts[fault.label] == struck
    assert there.asked[2] == 0


async def test_it_is_first_again_after_it_gave_an_object(there: Buckets) -> None:
    """One fetch tries it in a while; those beside that do not wait for it."""
    there.publish(SMALL)
    there.buckets[0].script(SILENT, SILENT)  # it begins anew beside the next one
    await there.fetch()
    await there.fetch()
    assert there.asked == [2, 2, 0]
    await trio.sleep(AGAIN)
    await there.fetch()
    await there.fetch()
    assert there.asked == [4, 2, 0]


async def test_a_bucket_that_lacks_one_object_is_still_asked_first_for_others(there: Buckets) -> None:
    other = make_ciphertext("other", 7, 2, chain_id=5)
    there.publish(SMALL)
    there.publish(other, 1, 2)
    await there.fetch(other)
    refused, _, _ = there.asked
    await there.fetch()
    assert there.asked == [refused + 1, 1, 0]


async def test_where_all_gave_nothing_all_are_asked(there: Buckets) -> None:
    there.publish(SMALL, 2)
    for bucket in there.buckets[:2]:
        bucket.strike(bucket_faults.SpoiledBodies(how="hang up"))
    there.buckets[2].script(
        bucket_faults.SpoiledBodies(how="hang up"), bucket_faults.SpoiledBodies(how="hang up")
    )
    with pytest.raises(Unreachable):
        await there.fetch()
    assert (await there.fetch()).body == SMALL.body


async def test_a_body_that_stalls_is_given_up(there: Buckets) -> None:
    there.publish(SMALL, 0)
    there.buckets[0].script(bucket_faults.StalledBodies(after=10))
    with pytest.raises(Unreachable, match="fell silent"):
        await there.fetch(senders=SENDERS[:1])
    assert trio.current_time() == pytest.approx(SILENCE)


async def test_coprocessors_that_nobody_knows_are_waited_for(there: Buckets) -> None:
    with pytest.raises(NotYet, match="no bucket is known"):
        await there.fetch(senders=[Address(bytes(20))])


@pytest.mark.parametrize(("size", "uses"), [(HASH_INLINE, []), (HASH_INLINE + 1, ["keccak"])])
async def test_only_a_large_body_is_hashed_off_the_loop(there: Buckets, size: int, uses: list[str]) -> None:
    large = make_ciphertext("large", 7, 2, chain_id=5, size=size)
    there.publish(large)
    assert (await there.fetch(large)).body == large.body
    assert there.uses == uses


@pytest.mark.parametrize(
    "trouble", [None, bucket_faults.SpoiledBodies(how="wrong bytes"), bucket_faults.StalledBodies(after=10)]
)
async def test_a_fetch_cancelled_anywhere_holds_nothing_and_can_be_repeated(
    there: Buckets, trouble: bucket_faults.BucketFault | None
) -> None:
    """Also not a place of the HTTP client, of which there are eight."""
    there.publish(SMALL)

    async def fetch() -> None:
        if trouble is not None:
            there.buckets[0].script(trouble)
        await there.fetch()

    async def look() -> None:
        assert there.budget.used == 0
        for bucket in there.buckets:
            bucket.heal()
        with trio.fail_after(HEDGE / 2):
            assert (await there.fetch()).body == SMALL.body

    assert await cancel_everywhere(fetch, look) > 5


# Bodies that a bucket could hurt with

HALF = MAX // 2


class Dripping(bucket_faults.BucketFault, frozen=True):
    """A body in pieces of this size, each after so many seconds."""

    name = "drip"
    piece: int = 1
    pause: float = 1.0
    announced: bool = True

    def act(self, _request: HttpRequest, honest: HttpResponse) -> HttpResponse:
        assert isinstance(honest.body, bytes)
        body = honest.body

        async def send_body(send: Send) -> None:
            for start in range(0, len(body), self.piece):
                await send(body[start : start + self.piece])
                await trio.sleep(self.pause)

        length = (("content-length", str(len(body))),) if self.announced else ()
        return attrs.evolve(honest, headers=(*honest.headers, *length), body=send_body)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_drips_counts_as_hung(there: Buckets, announced: bool) -> None:
    """A byte every nine seconds was no silence, and held the budget until the deadline of the stage."""
    there.publish(SMALL)
    for bucket in there.buckets:
        bucket.script(*[Dripping(piece=1, pause=SILENCE - 1, announced=announced)] * 2)
    with pytest.raises(Unreachable, match="bytes a second"):
        await there.fetch()
    assert trio.current_time() < 3 * SILENCE


async def test_a_slow_body_that_keeps_its_pace_is_read(there: Buckets) -> None:
    big = make_ciphertext("big", 7, 2, chain_id=5, size=HALF)
    there.publish(big, 0)
    there.buckets[0].script(*[Dripping(piece=SLOWEST, pause=1.0)] * 2)
    there.buckets[1].script(*[bucket_faults.RefusingBucket(code=404)] * 2)
    there.buckets[2].script(*[bucket_faults.RefusingBucket(code=404)] * 2)
    assert (await there.fetch(big)).body == big.body


async def test_bytes_without_a_length_count_as_they_arrive(there: Buckets) -> None:
    """Reproduced: bodies without a length counted nothing until they were whole: 530 MB beside the budget."""
    big = make_ciphertext("big", 7, 2, chain_id=5, size=HALF)
    there.publish(big, 0)
    there.buckets[0].script(Dripping(piece=SLOWEST, pause=0.5, announced=False))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(there.fetch, big, SENDERS[:1])
        await trio.sleep(2.25)
        assert 4 * SLOWEST <= there.budget.used <= 5 * SLOWEST


async def test_waiting_for_the_budget_in_the_middle_of_a_body_is_no_silence(there: Buckets) -> None:
    big = make_ciphertext("big", 7, 2, chain_id=5, size=HALF)
    there.publish(big, 0)
    there.buckets[0].script(Dripping(piece=SLOWEST, pause=0.1, announced=False))
    async with trio.open_nursery() as nursery:
        with Lease(there.budget) as other:
            await Attempt(other).reserve(MAX - SLOWEST)
            nursery.start_soon(there.fetcher.fetch, reference(big), Lease(there.budget))
            await trio.sleep(5 * SILENCE)
        await trio.sleep(1)
        assert there.budget.used == len(big.body)


@pytest.mark.parametrize("chunked", [False, True])
async def test_who_waits_for_bytes_holds_no_connection(there: Buckets, chunked: bool) -> None:
    """Reproduced: they held all of a bucket's, and the eldest, which needs no free bytes, waited for one: nobody went on."""
    requests = [
        [make_ciphertext(f"{name}/{n}", 7, 2, chain_id=5, size=MAX // 5) for n in range(2)]
        for name in range(20)
    ]
    for one in [one for both in requests for one in both]:
        there.publish(one, 0)
    there.buckets[0].script(*[bucket_faults.ChunkedBodies(bytes=SLOWEST)] * (1000 * chunked))
    done = list[float]()

    async def request(both: Sequence[EmulatedCiphertext]) -> None:
        with Lease(there.budget) as lease:
            found = await there.fetcher.fetch_all([reference(one) for one in both], lease)
            assert lease.held == sum(len(one.body) for one in found)
            assert there.budget.used <= MAX + MAX // 5
            await trio.sleep(0.5)  # the Core
        done.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = 30
        for both in requests:
            nursery.start_soon(request, both)
    assert len(done) == len(requests)
    assert there.asked[0] < 3 * 2 * len(requests)
    assert there.budget.used == 0


# Other bytes than the chain names


@pytest.mark.parametrize("tolerant", [False, True])
async def test_other_bytes_are_told_and_used_only_where_that_is_configured(
    there: Buckets, tolerant: bool
) -> None:
    there.publish(attrs.evolve(SMALL, body=b"wrong"), 0)
    there.publish(SMALL, 1)
    told: list[str] = []
    there.fetcher.mismatch = lambda _, reason: told.append(reason)
    there.fetcher.tolerant = tolerant
    assert (await there.fetch()).body == (b"wrong" if tolerant else SMALL.body)
    (reason,) = told
    assert "holds other bytes than the chain names" in reason
    assert ("used nevertheless" in reason) is tolerant


async def test_bytes_are_those_that_the_chain_names_by_their_whole_digest(there: Buckets) -> None:
    named = attrs.evolve(reference(SMALL), digest=SMALL.digest[:-1] + bytes([SMALL.digest[-1] ^ 1]))
    there.publish(SMALL)
    with Lease(there.budget) as lease, pytest.raises(Unreachable, match="other bytes than the chain names"):
        await there.fetcher.fetch(named, lease)


async def test_attempts_and_failures_are_counted_by_bucket(there: Buckets) -> None:
    there.publish(SMALL)
    there.buckets[0].script(bucket_faults.RefusingBucket(code=403), bucket_faults.RefusingBucket(code=403))
    await there.fetch()
    counts = there.fetcher.counts
    assert counts.fetched == 1
    assert [counts.attempts[name] for name in sorted(counts.attempts)] == [2, 1]
    assert list(counts.failures.values()) == [2]
    assert min(counts.attempts) in counts.failures


def test_buckets_without_end_share_a_count() -> None:
    """Their names come from a chain."""
    counts = BucketCounts()
    for number in range(1000):
        counts.tried(f"https://bucket{number}.example/path")
    assert len(counts.attempts) == MOST + 1
    assert counts.attempts[OTHERS] == 1000 - MOST
    assert counts.tried("https://bucket3.example/other") == "https://bucket3.example"


THREE = [make_ciphertext(name, 7, 2, chain_id=5) for name in ("one", "two", "three")]


async def fetch_three(there: Buckets) -> list[bytes]:
    """Fetch three ciphertexts of one request, and return their bytes."""
    with Lease(there.budget) as lease:
        found = await there.fetcher.fetch_all([reference(one, SENDERS) for one in THREE], lease)
        assert there.budget.used == sum(len(one.body) for one in found)
    assert there.budget.used == 0
    return [one.body for one in found]


@pytest.fixture
async def warm(there: Buckets) -> Buckets:
    """Buckets with three ciphertexts, and a connection kept for each."""
    for one in THREE:
        there.publish(one)
    assert await fetch_three(there) == [one.body for one in THREE]
    return there


async def test_over_kept_connections_all_are_asked_at_once_without_a_task(warm: Buckets) -> None:
    warm.buckets[0].bucket.latency = HEDGE / 2
    begun, before = trio.current_time(), warm.asked[0]
    task, nurseries = trio.lowlevel.current_task(), []

    async def look() -> None:
        await trio.sleep(HEDGE / 4)
        nurseries.append(len(task.child_nurseries))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        open_now = len(task.child_nurseries)
        bodies = await fetch_three(warm)
    assert (bodies, trio.current_time()) == ([one.body for one in THREE], begun + HEDGE / 2)
    assert (warm.asked[:2], nurseries) == ([before + 3, 0], [open_now])


async def test_who_waits_for_a_place_is_asked_in_turn_without_a_task(warm: Buckets) -> None:
    """There are eight places at a bucket, and here six requests for three ciphertexts each."""
    tasks: list[trio.lowlevel.Task] = []

    async def ask() -> None:
        tasks.append(trio.lowlevel.current_task())
        with Lease(warm.budget) as lease:
            found = await warm.fetcher.fetch_all([reference(one, SENDERS) for one in THREE], lease)
        assert [one.body for one in found] == [one.body for one in THREE]

    async def ask_six_times() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(ask)

    await ask_six_times()  # which opens eight connections
    tasks.clear()
    warm.buckets[0].bucket.latency = HEDGE / 8
    begun, before = trio.current_time(), warm.asked[0]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_six_times)
        await trio.sleep(HEDGE / 16)
        assert [len(task.child_nurseries) for task in tasks] == [0] * 6
    assert trio.current_time() <= begun + HEDGE / 2
    assert warm.asked[:2] == [before + 18, 0]


async def test_a_first_bucket_that_is_slow_holds_none_longer_than_the_next_one_takes(warm: Buckets) -> None:
    warm.buckets[0].bucket.latency = 20.0
    begun = trio.current_time()
    assert await fetch_three(warm) == [one.body for one in THREE]
    assert trio.current_time() == pytest.approx(begun + HEDGE)


async def test_one_that_fails_beside_others_is_had_from_the_next_bucket(warm: Buckets) -> None:
    warm.buckets[0].script(bucket_faults.SpoiledBodies(how="wrong bytes"))
    begun = trio.current_time()
    assert await fetch_three(warm) == [one.body for one in THREE]
    assert trio.current_time() < begun + HEDGE


async def test_what_was_asked_ahead_is_left_at_every_step_without_a_trace(warm: Buckets) -> None:
    async def look() -> None:
        assert warm.budget.used == 0
        assert await fetch_three(warm) == [one.body for one in THREE]

    assert await cancel_everywhere(lambda: fetch_three(warm), look) > 5
