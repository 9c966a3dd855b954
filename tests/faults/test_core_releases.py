"""Cores of several releases behind one connector, through upgrades and back; and calls that start a decryption and wait for it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.emulator import core_faults
from kmsconn.emulator.core import become
from kmsconn.emulator.core_faults import CoreFault, FailingCore, HangingCore, SpoiledCore
from kmsconn.emulator.core_requests import CoreRelease
from kmsconn.emulator.core_spoils import STRANGER
from kmsconn.emulator.key_ceremonies import LAST_EPOCH, NEXT_CONTEXT, NEXT_EPOCH, announcement_of
from kmsconn.model.events import AlertRaised, RequestClosed
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.requests import stages
from kmsconn.testing.faults import Ask, CoreRestart, CoreUpgrade, Kill, Reorg, Strike
from kmsconn.testing.ground_truth import replies_of
from kmsconn.testing.world import PlanStep, run_world
from kmsconn.transport.grpc.framing import Status
from tests.faults.ceremony import ENDS, LONG, Ceremony
from tests.faults.scene import Scene, open_scene

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


@pytest.mark.sampled
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


@pytest.mark.sampled
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


@pytest.mark.sampled
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


@pytest.mark.sampled
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


@pytest.mark.sampled
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


@pytest.mark.sampled
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


SYNC = ("PublicDecryptSync", "UserDecryptSync")


def calls(scene: Scene) -> dict[str, int]:
    """How often each method ended in OK."""
    counts = scene.dependencies.cores[0].counts
    return {method: n for (method, status), n in counts.items() if status == Status.OK.name}


def later(scene: Scene, **knobs: Any) -> None:
    core = scene.dependencies.cores[0].core
    become(core, CoreRelease.V0_15)
    for name, value in knobs.items():
        setattr(core, name, value)


def replies(scene: Scene) -> list[int]:
    return sorted(identifier for identifier, _ in replies_of(scene.dependencies))


async def test_each_request_is_one_call(scene: Scene) -> None:
    later(scene)
    ids = await scene.ask(*FORMS * 2)
    async with scene.connected():
        await scene.wait(lambda: scene.answered == set(ids))
    assert calls(scene) == {"PublicDecryptSync": 2, "UserDecryptSync": 4}
    assert replies(scene) == sorted(ids)


async def test_without_such_calls_requests_are_started_and_polled(scene: Scene) -> None:
    ids = await scene.ask(*FORMS)
    async with scene.connected():
        await scene.wait(lambda: scene.answered == set(ids))
    assert set(calls(scene)) == {
        "PublicDecrypt",
        "GetPublicDecryptionResult",
        "UserDecrypt",
        "GetUserDecryptionResult",
    }


async def test_what_takes_longer_than_the_wait_is_polled_without_being_sent_again(scene: Scene) -> None:
    later(scene, computing=90.0)
    ids = await scene.ask(*FORMS)
    async with scene.connected():
        await scene.wait(lambda: scene.answered == set(ids), 300)
    assert calls(scene) == {"GetPublicDecryptionResult": 1, "GetUserDecryptionResult": 2}
    assert replies(scene) == sorted(ids)


async def test_large_requests_are_started_so_that_their_bytes_are_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "LARGE_MESSAGE", 100)
    async with open_scene(tmp_path) as scene:
        later(scene)
        ids = await scene.ask(*FORMS)
        async with scene.connected():
            await scene.wait(lambda: scene.answered == set(ids))
        assert not calls(scene).keys() & set(SYNC)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "fault",
    [
        SpoiledCore(how="cut"),
        SpoiledCore(how="cut after"),
        HangingCore(),
        SpoiledCore(how="restart"),
        *(
            FailingCore(code=code)
            for code in ("UNAVAILABLE", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED")
        ),
        *(FailingCore(code=code, after=True) for code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")),
    ],
    ids=lambda fault: fault.label,
)
async def test_a_call_that_goes_wrong_loses_and_doubles_nothing(fault: CoreFault, scene: Scene) -> None:
    later(scene)
    for method in SYNC:
        scene.dependencies.cores[0].script(method, fault, fault)
    ids = await scene.ask(*FORMS)
    async with scene.connected():
        await scene.wait(lambda: scene.answered == set(ids), 600)
        await trio.sleep(60)
    assert replies(scene) == sorted(ids)


async def test_an_answer_that_is_not_this_nodes_is_not_sent(scene: Scene) -> None:
    core = scene.dependencies.cores[0].core
    later(scene, node=attrs.evolve(core.node, key=STRANGER))
    await scene.ask("public")
    async with scene.connected():
        await scene.wait(lambda: [one for one in scene.told(AlertRaised) if one.cause == "wrong-signer"])
    assert replies(scene) == []
    assert (
        scene.told(RequestClosed) == []
    )  # nothing of this Core has passed: it may sign all with another key


def test_a_core_is_upgraded_and_taken_back_in_mid_run() -> None:
    run_world(
        [
            Ask(1.0, "any", 5),
            CoreUpgrade(4.0),
            Ask(4.5, "any", 8),
            Kill(5.2, 1.0),
            Strike(7.0, "core0", SpoiledCore(method="PublicDecryptSync", how="cut after", times=2)),
            Ask(8.0, "public", 4),
            CoreRestart(9.0),
            Reorg(12.0, 6, "swapped"),
            Ask(14.0, "any", 5),
            CoreUpgrade(14.6, CoreRelease.V0_14),
            Ask(16.0, "any", 5),
        ],
        computing=0.8,
    ).check()
