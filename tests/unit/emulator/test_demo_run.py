"""A demonstration in virtual time: all is answered once; its load keeps its rate and leaves nothing behind, relayers repeat."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from kmsconn.emulator.buckets import BucketFaults, ObjectForm
from kmsconn.emulator.commands.demo import run_demo, seen
from kmsconn.emulator.core_faults import FailingCore
from kmsconn.emulator.dependencies import HOST_ID
from kmsconn.emulator.emulation import CommitteePlan, Emulation, EmulationPlan, log_calls
from kmsconn.emulator.fhevm_dependencies import GENERATIONS, FhevmDependencies, Traffic
from kmsconn.emulator.ground_truth import ReplyOnChain, ground_truth_of
from kmsconn.emulator.key_ceremonies import owner_of
from kmsconn.emulator.load import (
    AFTERMATH,
    AGAIN_SECONDS,
    KEPT,
    LAST_REPLY_TIMEOUT,
    POSTED_FORMS,
    HttpPost,
    Load,
    Relayers,
    put_on,
    run_load,
    tidy,
)
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.errors import Unreachable
from kmsconn.model.requests import FHEVM, HTTPZ_RC7, Kind
from kmsconn.observe.monitor import Monitor
from kmsconn.operate.commands.top_view import whole
from kmsconn.protocols.fhevm.http_decryption import HttpLimits
from kmsconn.serving.decryptions import READERS
from kmsconn.testing.ground_truth import requests_of
from kmsconn.transport.http import Response
from kmsconn.transport.ports import offload_inline

BASE = 1_767_225_600.0


def wall() -> float:
    """Return a wall clock that goes with Trio's."""
    return BASE + trio.current_time()


class Scene:
    """A demonstration of some requests at a rate, and the monitor that watches its connector."""

    def __init__(
        self, folder: Path, requests: float, rate: float = 10.0, *, keys: bool = False, **options: Any
    ) -> None:
        committee = CommitteePlan(keys=keys)
        load = Load(rate, requests / rate)
        self.emulation = Emulation.of(
            EmulationPlan(folder / "k.toml", load, committee=committee, **options), wall
        )
        self.monitor = Monitor(wall)

    async def run(self) -> Scene:
        """Run it to its end."""
        on_event = self.monitor.on_event
        await run_demo(self.emulation, self.monitor, on_event, offload=offload_inline, wall=wall)
        return self


@pytest.mark.parametrize("profile", GENERATIONS)
async def test_every_request_is_answered_and_is_included_once(tmp_path: Path, profile: str) -> None:
    """And it ends soon after the last reply: closing connections whose peer is gone already must not be waited for."""
    scene = await Scene(tmp_path, 12, 20, profile=profile).run()
    assert trio.current_time() < 3 + AFTERMATH
    result, status = scene.emulation.result(), seen(scene.monitor)
    assert (result.verdict.emitted, result.verdict.nodes[0].answered, result.well) == (12, 12, True)
    assert {one["stage"] for one in status["newest"]} <= {"included", "finalized"}
    assert whole(status)


async def test_a_connector_that_gets_nothing_done_is_told_apart(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 3)
    scene.emulation.traffic.granted = False
    await scene.run()
    result = scene.emulation.result()
    assert (result.well, result.verdict.nodes[0].open) == (False, 3)
    assert trio.current_time() < LAST_REPLY_TIMEOUT + 30
    assert all(one["detail"] for one in seen(scene.monitor)["oldest"])


@pytest.mark.slow
async def test_a_demonstration_can_be_cancelled(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 100)
    with trio.move_on_after(3):
        await scene.run()
    assert 0 < scene.emulation.result().verdict.nodes[0].answered < 40


async def test_a_fault_of_the_emulator_itself_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes = [RuntimeError("a bug in a bucket")]

    async def crash_once(stream: trio.abc.Stream) -> None:
        await trio.lowlevel.checkpoint()
        if crashes:
            raise crashes.pop()

    scene = Scene(tmp_path, 1)
    monkeypatch.setattr(BucketFaults, "serve", lambda _bucket, stream: crash_once(stream))
    with pytest.RaisesGroup(RuntimeError, match="the emulator itself failed", flatten_subgroups=True):
        await scene.run()


@pytest.mark.slow
async def test_a_life_of_keys_is_led_beside_the_requests(tmp_path: Path) -> None:
    """All steps are taken, each reply is included once, and no decryption waits for any of it."""
    emulation = (await Scene(tmp_path, 60, 2, keys=True).run()).emulation
    result = emulation.result()
    assert result.well
    [keys] = result.keys
    assert keys.done == tuple(owner_of(FhevmDependencies.make(wall)).by_name)
    assert (len(keys.verdict.replied), len(keys.verdict.aborted)) == (7, 2)
    assert (result.verdict.nodes[0].p99 or 0) <= 2 * emulation.dependencies.gateway.block_time


@pytest.mark.slow
async def test_a_life_of_keys_that_is_not_led_to_its_end_is_not_well(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 1, keys=True)
    scene.emulation.dependencies.cores[0].strike(FailingCore(code="UNAVAILABLE"), "CrsGen")
    await scene.run()
    result = scene.emulation.result()
    assert result.verdict.well
    assert (result.keys[0].done, result.well) == (("announcement", "key"), False)


RESULTS = {
    "fhevm": ("GetPublicDecryptionResult", "GetUserDecryptionResult"),
    "httpz-rc7": ("GetDecryptResult", "GetReencryptResult"),
}
STARTS = {"fhevm": ("PublicDecrypt", "UserDecrypt"), "httpz-rc7": ("Decrypt", "Reencrypt")}


@pytest.mark.slow
@pytest.mark.parametrize("profile", GENERATIONS)
async def test_each_request_and_each_call_is_one_line(tmp_path: Path, profile: str) -> None:
    lines: list[str] = []
    scene = Scene(tmp_path, 6, 20, profile=profile)
    dependencies, ground_truth = scene.emulation.dependencies, scene.emulation.ground_truth
    log_calls(dependencies, ground_truth, lines.append)
    await scene.run()
    asked = [line.split()[2] for line in lines if line.startswith("gateway  request ")]
    assert asked == [f"{name:064x}" for name in ground_truth.traces]
    started = [line.split() for line in lines if line.split()[1] in STARTS[profile]]
    assert len({(method, identifier) for _, method, identifier in started}) == len(started) == 6
    assert {shard for shard, _, _ in started} == {"core0"}
    results = {tuple(line.split()[1:]) for line in lines if line.split()[1] in RESULTS[profile]}
    assert {identifier for _, identifier in results} == {identifier for _, _, identifier in started}
    calls = sum(dependencies.cores[0].counts.values())
    assert len([line for line in lines if line.startswith("core0 ")]) == calls


async def test_a_call_without_an_id_is_told_too(tmp_path: Path) -> None:
    lines: list[str] = []
    emulation = Scene(tmp_path, 1, profile="httpz-rc7").emulation
    log_calls(emulation.dependencies, emulation.ground_truth, lines.append)
    emulation.dependencies.cores[0].on_call("Init", b"")
    assert lines == ["core0    Init"]


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


URL = "http://kms"
OK = Response(200, {}, b"{}")


def failure(code: str, *, retryable: bool) -> Response:
    return Response(503, {}, json.dumps({"code": code, "message": "", "retryable": retryable}).encode())


class Answers:
    """Stands for the HTTP client: gives answers in turn, the last one for ever."""

    def __init__(self, *answers: Response | Unreachable) -> None:
        self.answers, self.posted = list(answers), list[tuple[str, bytes]]()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
        self.posted.append((url, body))
        await trio.sleep(0.5)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Unreachable):
            raise answer
        return answer

    async def head(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        await trio.lowlevel.checkpoint()
        return OK


@pytest.fixture
def traffic() -> Traffic:
    return Traffic(FhevmDependencies.make(lambda: 1_767_225_600.0), Random(1))


@pytest.mark.parametrize("form", POSTED_FORMS)
def test_every_form_is_a_body_that_the_api_reads(traffic: Traffic, form: str) -> None:
    prepared = traffic.prepare(form)
    post = HttpPost.of(prepared)
    content = READERS[post.path](json.loads(post.body), HttpLimits({HOST_ID}))
    assert [one.handle for one in content.references] == [one.handle for one in prepared.ciphertexts]


def test_the_older_forms_are_not_posted(traffic: Traffic) -> None:
    with pytest.raises(ValueError, match="direct is not asked for over HTTP"):
        HttpPost.of(traffic.prepare("direct"))


async def ran(traffic: Traffic, http: Answers, rate: float = 1, seconds: float = 1) -> Any:
    relayers = Relayers(traffic, (URL,))
    await relayers.run(http, rate, seconds, ("public",))  # type: ignore[arg-type]
    return relayers.verdict()


async def test_a_post_is_repeated_while_that_may_help(traffic: Traffic) -> None:
    http = Answers(failure("timeout", retryable=True), Unreachable("gone"), OK)
    verdict = await ran(traffic, http)
    assert (verdict.posted, verdict.answered, verdict.repeated, verdict.well) == (1, 1, 2, True)
    assert len(set(http.posted)) == 1
    assert verdict.p50 == 1.5 + 2 * AGAIN_SECONDS


@pytest.mark.parametrize(
    ("answer", "codes"),
    [
        (failure("unprocessable", retryable=False), {"unprocessable": 1}),
        (Response(408, {}, b""), {"status 408": 1}),
    ],
)
async def test_a_final_failure_is_counted_by_its_code_or_status(
    traffic: Traffic, answer: Response, codes: dict[str, int]
) -> None:
    verdict = await ran(traffic, Answers(answer))
    assert (verdict.codes, verdict.well) == (codes, False)


async def test_what_is_never_answered_does_not_hold_the_end(traffic: Traffic) -> None:
    verdict = await ran(traffic, Answers(Unreachable("gone")), rate=2, seconds=2)
    assert (verdict.posted, verdict.answered, verdict.well) == (4, 0, False)


async def test_ciphertexts_of_answered_posts_are_dropped(traffic: Traffic) -> None:
    await ran(traffic, Answers(OK), rate=5, seconds=2)
    assert [len(bucket.bucket.objects) for bucket in traffic.dependencies.buckets] == [
        0 for _ in traffic.dependencies.buckets
    ]
