"""Cores whose calls start a decryption and wait for it: used where they are, done without where they are not, never answered twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.emulator.core import become
from kmsconn.emulator.core_faults import CoreFault, FailingCore, HangingCore, SpoiledCore
from kmsconn.emulator.core_requests import CoreRelease
from kmsconn.emulator.core_spoils import STRANGER
from kmsconn.model.events import AlertRaised, RequestClosed
from kmsconn.requests import stages
from kmsconn.testing.faults import Ask, CoreRestart, CoreUpgrade, Kill, Reorg, Strike
from kmsconn.testing.ground_truth import replies_of
from kmsconn.testing.world import run_world
from kmsconn.transport.grpc.framing import Status
from tests.faults.scene import Scene, open_scene

FORMS = ("public", "direct", "unified")
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
