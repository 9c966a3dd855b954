"""Cores of several releases behind one connector: the same replies, whichever field holds the signature, through upgrades and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kmsconn.emulator import core_faults
from kmsconn.emulator.core import become
from kmsconn.emulator.core_release import CoreRelease
from kmsconn.model.events import AlertRaised, RequestClosed
from kmsconn.testing.faults import Ask, CoreUpgrade, Kill
from kmsconn.testing.ground_truth import replies_of
from kmsconn.testing.world import PlanStep, run_world
from kmsconn.transport.grpc.status import Status
from tests.faults.scene import Scene, open_scene

pytestmark = pytest.mark.sampled

FORMS = ("public", "direct", "unified")
STARTS = {"PublicDecrypt", "UserDecrypt"}
AT_ONCE = {"PublicDecryptSync", "UserDecryptSync"}


def release(scene: Scene, *releases: CoreRelease) -> None:
    """Let the shards be of these releases."""
    for core, one in zip(scene.dependencies.cores, releases, strict=True):
        become(core.core, one)


def succeeded(scene: Scene, shard: int) -> set[str]:
    """Return the calls that a shard answered with OK."""
    counts = scene.dependencies.cores[shard].counts
    return {method for (method, status), n in counts.items() if status == Status.OK.name and n}


async def test_a_core_of_0_14_and_one_of_0_16_behind_one_connector(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async with open_scene(tmp_path, shards=2) as scene:
        release(scene, CoreRelease.V0_14, CoreRelease.V0_16)
        async with scene.connected():
            ids = await scene.ask(*FORMS * 4)
            await scene.wait(lambda: scene.answered == set(ids))
        assert {one % 2 for one in ids} == {0, 1}
        assert sorted(identifier for identifier, _ in replies_of(scene.dependencies)) == sorted(ids)
        assert succeeded(scene, 0) >= STARTS
        assert succeeded(scene, 1) >= AT_ONCE
        assert not STARTS & succeeded(scene, 1)
        assert scene.told(AlertRaised) == []


@pytest.mark.parametrize("one", CoreRelease, ids=lambda one: one.text)
async def test_signatures_of_other_schemes_are_no_obstacle(
    one: CoreRelease, tmp_path: Path, autojump_clock: Any
) -> None:
    async with open_scene(tmp_path) as scene:
        release(scene, one)
        for method in ("GetPublicDecryptionResult", "GetUserDecryptionResult"):
            scene.dependencies.cores[0].injections.append(
                core_faults.FaultInjection(1.0, core_faults.OTHER_SCHEMES, method)
            )
        for method in AT_ONCE:
            scene.dependencies.cores[0].script(method, *[core_faults.status(Status.UNAVAILABLE)] * 6)
        async with scene.connected():
            ids = await scene.ask(*FORMS)
            await scene.wait(lambda: scene.answered == set(ids))
        assert scene.dependencies.cores[0].counts["GetPublicDecryptionResult", "other schemes"]


async def test_two_signatures_that_differ_are_an_alert_and_no_reply(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async with open_scene(tmp_path) as scene:
        core = scene.dependencies.cores[0]
        core.injections.append(
            core_faults.FaultInjection(1.0, core_faults.TWO_SIGNATURES, "GetPublicDecryptionResult")
        )
        async with scene.connected():
            ids = await scene.ask("public", "public", "public")
            await scene.wait(
                lambda: [
                    one
                    for one in scene.told(AlertRaised)
                    if "differ" in one.text and one.severity == "critical"
                ]
            )
            assert not scene.answered
            core.heal()
            await scene.wait(lambda: scene.answered == set(ids))
        assert scene.told(RequestClosed) == [] or all(
            one.state != "quarantined" for one in scene.told(RequestClosed)
        )
        assert sorted(identifier for identifier, _ in replies_of(scene.dependencies)) == sorted(ids)


def test_upgrades_up_and_down_in_the_middle_of_traffic_and_kills() -> None:
    steps: list[PlanStep] = [
        *[Ask(1.0 + at, form, 2) for at in range(0, 20, 2) for form in FORMS],
        CoreUpgrade(4.0, CoreRelease.V0_15),
        Kill(6.0),
        CoreUpgrade(9.0, CoreRelease.V0_16),
        CoreUpgrade(13.0, CoreRelease.V0_14),
        Kill(14.0),
        CoreUpgrade(17.0, CoreRelease.V0_16),
    ]
    report = run_world(steps, seed=3, shards=2, settle_time=400.0)
    report.check()
    assert len(report.ground_truth.answered) == 60
