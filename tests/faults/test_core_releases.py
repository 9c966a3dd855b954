"""Cores of several releases behind one connector: the same replies, whichever field holds the signature, through upgrades and back."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from kmsconn.emulator import core_faults
from kmsconn.emulator.core import become
from kmsconn.emulator.core_requests import CoreRelease
from kmsconn.emulator.key_ceremonies import LAST_EPOCH, NEXT_CONTEXT, NEXT_EPOCH, announcement_of
from kmsconn.model.events import AlertRaised, RequestClosed
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.testing.faults import Ask, CoreUpgrade, Kill
from kmsconn.testing.ground_truth import replies_of
from kmsconn.testing.world import PlanStep, run_world
from kmsconn.transport.grpc.framing import Status
from tests.faults.ceremony import ENDS, LONG, Ceremony
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


async def test_a_core_of_0_14_and_one_of_0_16_behind_one_connector(tmp_path: Path) -> None:
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
async def test_signatures_of_other_schemes_are_no_obstacle(one: CoreRelease, scene: Scene) -> None:
    release(scene, one)
    for method in ("GetPublicDecryptionResult", "GetUserDecryptionResult"):
        scene.dependencies.cores[0].strike(core_faults.SpoiledCore(how="other schemes"), method)
    for method in AT_ONCE:
        scene.dependencies.cores[0].script(method, *[core_faults.FailingCore(code="UNAVAILABLE")] * 6)
    async with scene.connected():
        ids = await scene.ask(*FORMS)
        await scene.wait(lambda: scene.answered == set(ids))
    assert scene.dependencies.cores[0].counts["GetPublicDecryptionResult", "spoil other schemes"]


async def test_two_signatures_that_differ_are_an_alert_and_no_reply(scene: Scene) -> None:
    core = scene.dependencies.cores[0]
    core.strike(core_faults.SpoiledCore(how="two signatures"), "GetPublicDecryptionResult")
    async with scene.connected():
        ids = await scene.ask("public", "public", "public")
        await scene.wait(
            lambda: [
                one for one in scene.told(AlertRaised) if "differ" in one.text and one.severity == "critical"
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


OF_EACH = (CoreRelease.V0_14, CoreRelease.V0_15, CoreRelease.V0_16, CoreRelease.V0_16)
"""The releases of a committee's Cores."""


async def test_a_committee_of_three_releases_takes_its_keys_through_a_whole_life(ceremony: Ceremony) -> None:
    """All sign the same digests, whichever field holds the signature, and forget what was destroyed, whoever tells them its epochs."""
    for core, one in zip(ceremony.cores, OF_EACH, strict=True):
        become(core, one)
    with trio.fail_after(LONG):
        for step in list(ceremony.owner.steps.values())[:-1]:  # the Gateway need not hear of the end
            await step()
    after = [await ceremony.ask(form) for form in FORMS]
    await ceremony.wait(
        lambda: all(ceremony.has_answered(node, one) for node in ceremony.nodes for one in after)
    )
    await trio.sleep(ENDS)
    for node, core in enumerate(ceremony.cores):
        ceremony.check_replies(node)
        assert core.known.contexts == {NEXT_CONTEXT.to_bytes(32)}
        assert core.known.epochs == {LAST_EPOCH.to_bytes(32)}


async def test_an_epoch_that_is_destroyed_while_the_cores_make_it_is_gone_once_they_have_made_it(
    ceremony: Ceremony,
) -> None:
    """From 0.15 on they refuse to destroy it until then. Nobody confirms it."""
    for core, one in zip(ceremony.cores, OF_EACH, strict=True):
        become(core, one)
    steps = ceremony.owner.steps
    for name in ("announcement", "key", "CRS"):
        await steps[name]()
    for core in ceremony.cores:
        core.memory.generating = 600.0
    config = ceremony.dependencies.protocol_config
    following = announcement_of(ceremony.dependencies.committee)
    ceremony.act(config, lambda frame: config.begin_context(frame, following))
    await ceremony.wait(
        lambda: all(core.memory.at_work("epoch", NEXT_EPOCH.to_bytes(32)) for core in ceremony.cores)
    )
    ceremony.act(config, lambda frame: config.destroy_epoch(frame, NEXT_EPOCH))
    for node, core in enumerate(ceremony.cores):
        await ceremony.wait(partial(ceremony.told, node, RequestClosed, Kind.KMS_EPOCH_DESTROYED))
        [made] = ceremony.told(node, RequestClosed, Kind.NEW_KMS_EPOCH)
        [ended] = ceremony.told(node, RequestClosed, Kind.KMS_EPOCH_DESTROYED)
        assert (made.state, ended.state) == (State.REJECTED, State.DONE)
        assert NEXT_EPOCH.to_bytes(32) not in core.known.epochs
        assert ("confirmEpochActivation", NEXT_EPOCH) not in ceremony.keys(node).replied
        refusals = ceremony.core_faults[node].counts["DestroyMpcEpoch", "FAILED_PRECONDITION"]
        assert bool(refusals) == (OF_EACH[node] is not CoreRelease.V0_14)
