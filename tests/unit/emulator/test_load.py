"""A load is queued at its rate, waits for the end of it, and leaves no ciphertexts behind."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
import trio
import trio.testing

from kmsconn.emulator.buckets import ObjectForm
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.ground_truth import ReplyOnChain, ground_truth_of
from kmsconn.emulator.load import AFTERMATH, KEPT, Load, put_on, run_load, tidy
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.traffic import GENERATIONS, Traffic
from kmsconn.model.requests import FHEVM, HTTPZ_RC7, Kind
from kmsconn.testing.ground_truth import requests_of

BASE = 1_767_225_600.0


class Place:
    """EmulatedDependencies on a memory network, with users and an ground_truth, but no connector: nothing is ever answered."""

    def __init__(self, seed: int = 0, profile: str = FHEVM) -> None:
        self.traffic = GENERATIONS[profile].settle(lambda: BASE + trio.current_time(), Random(seed))
        self.dependencies = self.traffic.dependencies
        self.dependencies.settle_in_memory(MemoryNetwork())
        self.ground_truth = ground_truth_of(self.dependencies)

    async def run(self, load: Load, *, reply_timeout: float = 5.0) -> list[str]:
        """Put a load on, note how long it took, and return the forms of its requests."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.dependencies.run)
            queued = await run_load(load, self.traffic, self.ground_truth, reply_timeout=reply_timeout)
            nursery.cancel_scope.cancel()
        self.seconds = trio.current_time() - began
        self.queued = set(queued)
        return list(queued.values())

    def answer(self, transaction_hash: bytes) -> None:
        """Let the ground_truth have seen an answer."""
        trace = self.ground_truth.trace_of(transaction_hash)
        assert trace is not None
        trace.answer = ReplyOnChain(b"", 1, 1, trio.current_time())


def still_users() -> Traffic:
    """Return users of a world in which time does not pass."""
    dependencies = FhevmDependencies.make(lambda: BASE)
    dependencies.settle_in_memory(MemoryNetwork())
    return Traffic(dependencies)


async def test_all_requests_of_a_load_reach_the_chain_each_under_its_transaction() -> None:
    place, load = Place(), Load(rate=2.5, seconds=4)
    await place.run(load)
    assert place.ground_truth.verdict().emitted == load.count == 10
    assert {trace.transaction_hash for trace in place.ground_truth.traces.values()} == place.queued


async def test_requests_come_at_their_rate() -> None:
    place = Place()
    began = trio.current_time()
    await place.run(Load(rate=2.5, seconds=2))
    seconds = [round(trace.at - began, 2) for trace in place.ground_truth.traces.values()]
    assert sorted(seconds) == [0.25, 0.5, 1.0, 1.25, 1.75]


async def test_patience_ends_and_leaves_requests_open() -> None:
    place = Place()
    await place.run(Load(rate=4, seconds=1), reply_timeout=7.0)
    assert (place.ground_truth.verdict().open, place.seconds) == (4, 0.75 + 7.0 + AFTERMATH)


async def test_a_load_can_be_cancelled() -> None:
    place = Place()
    with trio.move_on_after(1.6):
        await place.run(Load(rate=1, seconds=60))
    assert place.ground_truth.verdict().emitted == 2


async def test_a_minute_of_pairs_is_a_hundred_and_twenty_of_each_kind() -> None:
    """The event generator of the first generation: a public and a user request every 500 ms."""
    place = Place(profile=HTTPZ_RC7)
    await place.run(Load(rate=4, seconds=60, forms=("public", "user")), reply_timeout=1)
    kinds = Counter(
        place.dependencies.generation_events.requests[log.topics[0]]
        for log in requests_of(place.dependencies)
    )
    assert kinds == {Kind.PUBLIC_DECRYPTION: 120, Kind.USER_DECRYPTION: 120}


async def test_the_forms_of_a_load_are_the_named_ones_in_turn_or_all() -> None:
    assert (
        await Place().run(Load(rate=20, seconds=1, forms=("public", "wallet"))) == ["public", "wallet"] * 10
    )
    place = Place()
    assert set(await place.run(Load(rate=60, seconds=1))) == set(place.traffic.forms)


async def test_a_prepared_load_is_the_same_load() -> None:
    loads = [Load(rate=20, seconds=1, prepared=prepared) for prepared in (False, True)]
    first, second = [await Place(3).run(load, reply_timeout=1) for load in loads]
    assert first == second


async def test_everything_of_a_prepared_load_is_there_before_its_first_request() -> None:
    place = Place()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put_on, Load(1, 9, prepared=True), place.traffic, place.ground_truth)
        await trio.testing.wait_all_tasks_blocked()
        assert len(place.dependencies.plaintexts) >= 9
        assert len(place.traffic.remembered) == 1
        nursery.cancel_scope.cancel()


async def test_the_same_seed_makes_the_same_load() -> None:
    forms = [await Place(seed).run(Load(rate=20, seconds=1), reply_timeout=1) for seed in (3, 3, 4)]
    assert forms[0] == forms[1] != forms[2]


async def test_ciphertexts_of_open_requests_are_kept() -> None:
    place = Place()
    await place.run(Load(rate=5, seconds=1), reply_timeout=5 * KEPT)
    assert len(place.traffic.remembered) == 5


@pytest.mark.parametrize(("seconds", "kept"), [(KEPT - 2, True), (KEPT + 2, False)])
async def test_ciphertexts_of_answered_requests_are_kept_for_a_while(seconds: float, kept: bool) -> None:
    place = Place()
    answered, still_open = place.traffic.public(), place.traffic.public()
    place.dependencies.gateway.mine()
    place.ground_truth.read()
    place.answer(answered)
    with trio.move_on_after(seconds):
        await tidy(place.traffic, place.ground_truth)
    assert set(place.traffic.remembered) == {still_open} | ({answered} if kept else set())


def test_forgetting_leaves_nothing_in_buckets_and_core() -> None:
    traffic = still_users()
    sent = traffic.public()
    assert traffic.dependencies.plaintexts
    traffic.forget(sent)
    traffic.forget(sent)
    assert (traffic.dependencies.plaintexts, traffic.remembered) == ({}, ())
    assert all(not bucket.bucket.objects for bucket in traffic.dependencies.buckets)


def test_objects_are_forgotten_under_the_key_they_are_stored_under() -> None:
    traffic = still_users()
    traffic.public()
    keys = {ObjectForm.HANDLE.key(one) for one in traffic._latest}
    assert all(set(bucket.bucket.objects) == keys for bucket in traffic.dependencies.buckets)
