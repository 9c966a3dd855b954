"""Ciphertexts behind which a quorum of the coprocessors must stand: what is fetched, from whom, and what is waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest

from kmsconn.ciphertexts.attestation import BIG_COMPRESSED, FORMAT_HEADER
from kmsconn.ciphertexts.fetch import ByteBudget, Fetcher, Lease
from kmsconn.ciphertexts.sources import BothForms
from kmsconn.emulator import bucket_faults
from kmsconn.emulator.buckets import ObjectForm
from kmsconn.errors import NoCiphertext, NotAttested, Unreachable
from kmsconn.model.requests import CiphertextReference
from kmsconn.model.steps import Ciphertext
from kmsconn.transport.ports import offload_inline
from tests.unit.ciphertexts.test_comparing import KEY, ONE, REFERENCE, SENDERS, STRANGER, Place, open_place

BARE = CiphertextReference.bare(ONE.handle)
WRONG = ONE.digest[:-1] + bytes([ONE.digest[-1] ^ 1])


@attrs.define
class Scene:
    """The three buckets of the shadow's tests, and what fetches from them."""

    place: Place
    enforced: bool = True
    fetched: list[CiphertextReference] = attrs.field(factory=list)

    async def fetch(self, reference: CiphertextReference) -> Ciphertext:
        quorum = self.place.shadow.quorum
        scene = self

        class Noted(BothForms):
            async def of(self, reference: CiphertextReference) -> Any:
                scene.fetched.append(reference)
                return await super().of(reference)

        fetcher = Fetcher(
            Noted(quorum.http, quorum.registry),
            quorum.policy,
            offload_inline,
            1 << 20,
            quorum=quorum,
            enforced=self.enforced,
        )
        with Lease(ByteBudget(1 << 20)) as lease:
            return await fetcher.fetch(reference, lease)

    def gets(self) -> list[int]:
        """How many objects each bucket was asked for."""
        counts = [one.bucket.counts for one in self.place.buckets]
        return [sum(n for (method, _), n in count.items() if method == "GET") for count in counts]


@asynccontextmanager
async def open_scene(*, enforced: bool = True) -> AsyncIterator[Scene]:
    async with open_place() as place:
        place.store_all()
        yield Scene(place, enforced)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with open_scene() as scene:
        yield scene


both = pytest.mark.parametrize("reference", [REFERENCE, BARE], ids=["whole", "bare"])


@both
async def test_what_a_quorum_attests_is_fetched(scene: Scene, reference: CiphertextReference) -> None:
    found = await scene.fetch(reference)
    assert (found.handle, found.body, found.key_id, found.format) == (
        ONE.handle,
        ONE.body,
        KEY,
        BIG_COMPRESSED,
    )
    assert [(one.key_id, one.digest) for one in scene.fetched] == [(KEY, ONE.digest)]


async def test_where_it_is_not_enforced_the_chains_word_counts_and_nobody_is_asked() -> None:
    async with open_scene(enforced=False) as scene:
        await scene.fetch(REFERENCE)
        assert scene.fetched == [REFERENCE]
        assert scene.place.asked == [1, 0, 0]


async def test_a_bare_handle_needs_a_quorum_even_where_none_is_enforced() -> None:
    async with open_scene(enforced=False) as scene:
        scene.place.store(0, key_id=9)
        scene.place.store(1, key_id=8)
        with pytest.raises(Unreachable, match="3 attestations were found, but no 2 of them agree"):
            await scene.fetch(BARE)
        assert scene.fetched == []


@both
async def test_a_lying_minority_is_asked_for_no_bytes(scene: Scene, reference: CiphertextReference) -> None:
    """Not even where the chain names that coprocessor alone, as here."""
    scene.place.store(0, sns_ciphertext_digest=WRONG)
    assert (await scene.fetch(reference)).body == ONE.body
    assert scene.fetched[0].coprocessors == (SENDERS[1], SENDERS[2])
    assert scene.gets()[0] == 0


@both
async def test_a_bucket_of_the_quorum_that_holds_other_bytes_is_passed_over(
    scene: Scene, reference: CiphertextReference
) -> None:
    bucket = scene.place.buckets[0].bucket
    bucket.put(ObjectForm.HANDLE.key(ONE), b"malicious", bucket.objects[ObjectForm.HANDLE.key(ONE)].headers)
    assert (await scene.fetch(reference)).body == ONE.body


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"sns_ciphertext_digest": WRONG}, f"the digest 0x{WRONG.hex()}"), ({"key_id": 9}, "the key 0x9")],
    ids=["digest", "key"],
)
async def test_a_quorum_that_contradicts_the_chain_is_waited_out(
    scene: Scene, changes: dict[str, Any], named: str
) -> None:
    scene.place.store_all(**changes)
    with pytest.raises(Unreachable, match=f"{ONE.handle.hex()} is not attested: attested is {named}"):
        await scene.fetch(REFERENCE)
    assert scene.gets() == [0, 0, 0]


@both
@pytest.mark.parametrize("silent", [(0, 1), (0, 2), (1, 2), (0, 1, 2)])
async def test_without_a_quorum_nothing_is_fetched(
    scene: Scene, silent: Sequence[int], reference: CiphertextReference
) -> None:
    for index in silent:
        scene.place.buckets[index].bucket.objects.clear()
    with pytest.raises(Unreachable, match=f"{3 - len(silent)} attestations were found"):
        await scene.fetch(reference)
    assert scene.gets() == [0, 0, 0]


@both
async def test_strangers_are_no_quorum(scene: Scene, reference: CiphertextReference) -> None:
    scene.place.store_all(signer=STRANGER)
    with pytest.raises(Unreachable, match="no 2 of them agree"):
        await scene.fetch(reference)


async def test_the_format_is_the_attested_one_not_that_of_the_object_that_was_taken(scene: Scene) -> None:
    for one in scene.place.buckets:
        one.bucket.objects[ObjectForm.HANDLE.key(ONE)] = attrs.evolve(
            one.bucket.objects[ObjectForm.HANDLE.key(ONE)], body=b""
        )
        one.bucket.put(ONE.digest.hex(), ONE.body, ((FORMAT_HEADER, "uncompressed_on_cpu"),))
    found = await scene.fetch(REFERENCE)
    assert (found.body, found.format) == (ONE.body, BIG_COMPRESSED)


async def test_buckets_that_all_have_no_ciphertext_are_told_from_silent_ones(scene: Scene) -> None:
    for one in scene.place.buckets:
        one.bucket.objects.clear()
    with pytest.raises(NoCiphertext):
        await scene.fetch(BARE)
    scene.place.buckets[2].strike(bucket_faults.RefusingBucket(code=500))
    with pytest.raises(Unreachable) as caught:
        await scene.fetch(BARE)
    assert type(caught.value) is Unreachable


async def test_coprocessors_that_disagree_are_told_from_missing_ones(scene: Scene) -> None:
    scene.place.store(0, key_id=9)
    scene.place.store(1, key_id=8)
    with pytest.raises(NotAttested) as caught:
        await scene.fetch(BARE)
    assert type(caught.value) is NotAttested
