"""A demonstration in virtual time: the real connector among emulated dependencies, all requests answered once."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from kmsconn.emulator.bucket_faults import BucketFaults
from kmsconn.emulator.core_faults import FailingCore
from kmsconn.emulator.demo import Demo, DemoPlan, DemoResult, ProgressStage, Totals, run_demo
from kmsconn.emulator.emulation import log_calls
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.ground_truth import ChainVerdict
from kmsconn.emulator.key_ceremonies import owner_of
from kmsconn.emulator.load import AFTERMATH
from kmsconn.emulator.traffic import GENERATIONS
from kmsconn.transport.ports import offload_inline

BASE = 1_767_225_600.0


def wall() -> float:
    """Return a wall clock that goes with Trio's."""
    return BASE + trio.current_time()


async def played(plan: DemoPlan, folder: Path) -> Demo:
    """Run a demonstration to its end."""
    demo = Demo.of(plan, wall)
    await run_demo(demo, folder / "journal.db", offload=offload_inline, wall=wall)
    return demo


@pytest.mark.parametrize("profile", GENERATIONS)
async def test_every_request_is_answered_and_is_included_once(tmp_path: Path, profile: str) -> None:
    demo = await played(DemoPlan(requests=12, rate=20, profile=profile), tmp_path)
    totals = demo.progress.totals()
    assert (totals.requested, totals.seen, totals.answered, totals.included) == (12, 12, 12, 12)
    assert demo.result().well


@pytest.mark.parametrize("profile", GENERATIONS)
async def test_every_row_ends_included_with_form_and_latency(tmp_path: Path, profile: str) -> None:
    progress = (await played(DemoPlan(requests=6, profile=profile), tmp_path)).progress
    assert {row.stage for row in progress.rows.values()} == {ProgressStage.INCLUDED}
    assert all(progress.form_of(row) and progress.age_of(row) for row in progress.rows.values())


async def test_it_ends_soon_after_the_last_reply(tmp_path: Path) -> None:
    """Closing connections whose peer is gone already must not be waited for."""
    await played(DemoPlan(requests=1), tmp_path)
    assert trio.current_time() < 3 + AFTERMATH


@pytest.mark.slow
async def test_the_same_seed_shows_the_same_requests(tmp_path: Path) -> None:
    forms = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        (tmp_path / name).mkdir()
        demo = await played(DemoPlan(requests=8, rate=40, seed=seed), tmp_path / name)
        forms.append(list(demo.ledger.forms.values()))
    assert forms[0] == forms[1] != forms[2]


async def test_a_connector_that_gets_nothing_done_is_told_apart(tmp_path: Path) -> None:
    plan = DemoPlan(requests=3, rate=10, reply_timeout=2)
    demo = Demo.of(plan, wall)
    demo.traffic.granted = False
    result = await run_demo(demo, tmp_path / "journal.db", offload=offload_inline, wall=wall)
    assert (result.well, result.failed, result.totals.answered) == (False, 3, 0)
    assert all(row.note for row in demo.progress.rows.values())


@pytest.mark.slow
async def test_a_demonstration_can_be_cancelled(tmp_path: Path) -> None:
    demo = Demo.of(DemoPlan(requests=100, rate=10), wall)
    with trio.move_on_after(3):
        await run_demo(demo, tmp_path / "journal.db", offload=offload_inline, wall=wall)
    assert 0 < demo.result().totals.included < 40


async def test_a_fault_of_the_emulator_itself_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes = [RuntimeError("a bug in a bucket")]

    async def crash_once(stream: trio.abc.Stream) -> None:
        await trio.lowlevel.checkpoint()
        if crashes:
            raise crashes.pop()

    demo = Demo.of(DemoPlan(requests=1, reply_timeout=1), wall)
    monkeypatch.setattr(BucketFaults, "serve", lambda _bucket, stream: crash_once(stream))
    with pytest.RaisesGroup(RuntimeError, match="the emulator itself failed", flatten_subgroups=True):
        await run_demo(demo, tmp_path / "journal.db", offload=offload_inline, wall=wall)


WELL = ChainVerdict(emitted=2, answered=2, doubled=0, strays=0, p50=0.25, p99=0.5)


def result_of(verdict: ChainVerdict, *, answered: int = 2) -> DemoResult:
    """Return the result of a demonstration of two requests."""
    totals = Totals(2, 2, answered, verdict.answered, 0, verdict.doubled)
    return DemoResult(2, totals, verdict)


@pytest.mark.parametrize(
    ("result", "well"),
    [
        (result_of(WELL), True),
        (result_of(attrs.evolve(WELL, answered=1)), False),
        (result_of(attrs.evolve(WELL, doubled=1)), False),
        (result_of(attrs.evolve(WELL, strays=1)), False),
        (result_of(WELL, answered=1), False),
    ],
)
def test_well_means_everything_answered_and_included_and_nothing_twice(
    result: DemoResult, well: bool
) -> None:
    assert result.well is well


@pytest.mark.slow
async def test_a_life_of_keys_is_led_beside_the_requests(tmp_path: Path) -> None:
    """All steps are taken, each reply is included once, no decryption waits for any of it, and rows say how each ended."""
    demo = await played(DemoPlan(requests=60, rate=2, keys=True), tmp_path)
    result = demo.result()
    assert result.well
    assert result.keys is not None
    assert result.keys.done == tuple(owner_of(FhevmDependencies.make(wall)).by_name)
    assert (len(result.keys.verdict.replied), len(result.keys.verdict.aborted)) == (7, 2)
    assert (result.verdict.p99 or 0) <= 2 * demo.dependencies.gateway.block_time
    rows = [row for row in demo.progress.rows.values() if not row.is_decryption]
    assert {demo.progress.form_of(row) for row in rows} >= {
        "prep_keygen",
        "abort_crsgen",
        "kms_context_destroyed",
    }
    assert [row.kind for row in rows if not row.well and row.stage is not ProgressStage.INCLUDED] == []
    assert all((demo.progress.age_of(row) or 0) < 60 for row in rows)
    assert demo.progress.totals().failed == 0


@pytest.mark.slow
async def test_a_life_of_keys_that_is_not_led_to_its_end_is_not_well(tmp_path: Path) -> None:
    demo = Demo.of(DemoPlan(requests=1, keys=True, reply_timeout=60), wall)
    assert demo.keys is not None
    demo.dependencies.cores[0].strike(FailingCore(code="UNAVAILABLE"), "CrsGen")
    await run_demo(demo, tmp_path / "journal.db", offload=offload_inline, wall=wall)
    result = demo.result()
    assert result.verdict.well
    assert result.keys is not None
    assert (result.keys.done, result.well) == (("announcement", "key"), False)


RESULTS = {
    "fhevm": ("GetPublicDecryptionResult", "GetUserDecryptionResult"),
    "httpz-rc7": ("GetDecryptResult", "GetReencryptResult"),
}
STARTS = {"fhevm": ("PublicDecrypt", "UserDecrypt"), "httpz-rc7": ("Decrypt", "Reencrypt")}


@pytest.mark.slow
@pytest.mark.parametrize("profile", GENERATIONS)
async def test_each_request_and_each_call_is_one_line(tmp_path: Path, profile: str) -> None:
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
