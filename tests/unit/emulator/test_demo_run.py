"""A demonstration in virtual time: the real connector among emulated dependencies, all requests answered once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from kmsconn.emulator.bucket_faults import BucketFaults
from kmsconn.emulator.commands.demo import run_demo, seen
from kmsconn.emulator.core_faults import FailingCore
from kmsconn.emulator.emulation import CommitteePlan, Emulation, EmulationPlan, log_calls
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.key_ceremonies import owner_of
from kmsconn.emulator.load import AFTERMATH, LAST_REPLY_TIMEOUT, Load
from kmsconn.emulator.traffic import GENERATIONS
from kmsconn.observe.monitor import Monitor
from kmsconn.operate.commands.top_view import whole
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
    scene = await Scene(tmp_path, 12, 20, profile=profile).run()
    result, status = scene.emulation.result(), seen(scene.monitor)
    assert (result.verdict.emitted, result.verdict.nodes[0].answered, result.well) == (12, 12, True)
    assert {one["stage"] for one in status["newest"]} <= {"included", "finalized"}
    assert whole(status)


async def test_it_ends_soon_after_the_last_reply(tmp_path: Path) -> None:
    """Closing connections whose peer is gone already must not be waited for."""
    await Scene(tmp_path, 1).run()
    assert trio.current_time() < 3 + AFTERMATH


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
