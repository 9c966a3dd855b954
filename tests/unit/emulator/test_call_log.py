"""The emulated dependencies say what they are asked: a line for each request and each call of a Core, with its id."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from kmsconn.emulator.call_log import log_calls
from kmsconn.emulator.demo import Demo, DemoPlan, run_demo
from kmsconn.emulator.generations import GENERATIONS
from kmsconn.transport.ports import offload_inline

RESULTS = {
    "fhevm": ("GetPublicDecryptionResult", "GetUserDecryptionResult"),
    "httpz-rc7": ("GetDecryptResult", "GetReencryptResult"),
}
STARTS = {"fhevm": ("PublicDecrypt", "UserDecrypt"), "httpz-rc7": ("Decrypt", "Reencrypt")}


def wall() -> float:
    return 1_767_225_600.0 + trio.current_time()


@pytest.mark.slow
@pytest.mark.parametrize("profile", GENERATIONS)
async def test_each_request_and_each_call_is_one_line(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, profile: str
) -> None:
    lines: list[str] = []
    demo = Demo.of(DemoPlan(requests=6, rate=20, profile=profile), wall)
    log_calls(demo.dependencies, demo.ground_truth, lines.append)
    await run_demo(demo, tmp_path / "journal.db", offload=offload_inline, wall=wall)
    asked = [line.split()[2] for line in lines if line.startswith("gateway  request ")]
    assert asked == [f"{name:064x}" for name in demo.ground_truth.traces]
    started = [line.split() for line in lines if line.split()[1] in STARTS[profile]]
    assert len({(method, identifier) for _, method, identifier in started}) == len(started) == 6
    assert {shard for shard, _, _ in started} == {"core0"}
    results = {tuple(line.split()[1:]) for line in lines if line.split()[1] in RESULTS[profile]}
    assert {identifier for _, identifier in results} == {identifier for _, _, identifier in started}
    calls = sum(demo.dependencies.cores[0].counts.values())
    assert len([line for line in lines if line.startswith("core0 ")]) == calls


def test_a_call_without_an_id_is_told_too() -> None:
    lines: list[str] = []
    demo = Demo.of(DemoPlan(profile="httpz-rc7"), lambda: 0.0)
    log_calls(demo.dependencies, demo.ground_truth, lines.append)
    demo.dependencies.cores[0].on_call("Init", b"")
    assert lines == ["core0    Init"]
