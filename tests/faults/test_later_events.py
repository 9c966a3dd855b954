"""The upgrade to 0.15 and beyond: each request told twice, then in the form that names handles only. One row, one reply."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from kmsconn.config.description import AttestationMode
from kmsconn.emulator.core_faults import FailingCore
from kmsconn.model.events import RequestClosed, RequestDeferred, RequestRecorded
from kmsconn.model.life import State
from kmsconn.requests.checker import DAY, HOUR
from kmsconn.testing.faults import Ask, Kill, Reorg, Upgrade
from kmsconn.testing.ground_truth import replies_of, requests_of
from kmsconn.testing.world import run_world
from tests.faults.scene import Scene, open_scene

pytestmark = pytest.mark.sampled

FORMS = ("public", "direct", "delegated", "unified", "unified_delegated", "wallet")


def upgrade(scene: Scene, *, only: bool = False) -> None:
    decryption = scene.dependencies.decryption
    scene.dependencies.gateway.evm.set_up(decryption.address, decryption.emit_later_events, only=only)


def logs(scene: Scene) -> int:
    return len(list(requests_of(scene.dependencies)))


def replies(scene: Scene) -> list[int]:
    return sorted(identifier for identifier, _ in replies_of(scene.dependencies))


@pytest.mark.parametrize("attestation", AttestationMode)
@pytest.mark.parametrize("only", [False, True], ids=["both forms", "the later form only"])
async def test_every_kind_of_request_is_one_request_and_answered_once(
    only: bool, attestation: AttestationMode, scene: Scene
) -> None:
    upgrade(scene, only=only)
    ids = await scene.ask(*FORMS)
    async with scene.connected(attestation=attestation):
        await scene.wait(lambda: scene.answered == set(ids))
        await trio.sleep(60)
    assert logs(scene) == len(FORMS) * (1 if only else 2)
    assert replies(scene) == sorted(ids)
    assert sorted(event.id for event in scene.told(RequestRecorded)) == sorted(ids)


async def test_a_reorganisation_between_the_forms_is_a_move(scene: Scene) -> None:
    upgrade(scene)
    await trio.sleep(5)
    ids = await scene.ask("public", "direct", "unified")
    async with scene.connected(reorg_window=30.0):
        await scene.wait(lambda: len(scene.told(RequestRecorded)) == len(ids))
        upgrade(scene, only=True)
        chain, first = (
            scene.dependencies.gateway,
            min(log.block_number for log in requests_of(scene.dependencies)),
        )
        chain.reorg(chain.head.number - first + 1)
        await scene.wait(lambda: scene.answered == set(ids))
        await trio.sleep(60)
    assert logs(scene) == 3
    assert replies(scene) == sorted(ids)
    assert sorted(event.id for event in scene.told(RequestRecorded)) == sorted(ids)


async def test_a_handle_that_nobody_attests_is_waited_for_and_named(scene: Scene) -> None:
    upgrade(scene, only=True)
    transaction = scene.traffic.public()
    ciphertexts = scene.traffic._remembered[transaction]
    stored = [dict(one.bucket.objects) for one in scene.dependencies.buckets]
    for one in scene.dependencies.buckets:
        one.bucket.objects.clear()
    [bad] = await scene.on_chain([transaction])
    good = await scene.ask("direct", "unified")
    async with scene.connected():
        await scene.wait(lambda: scene.answered == set(good))
        [reason] = {event.reason for event in scene.told(RequestDeferred)}
        assert "is not attested: 0 attestations were found" in reason
        assert any(one.handle.hex() in reason for one in ciphertexts)
        for one, objects in zip(scene.dependencies.buckets, stored, strict=True):
            one.bucket.objects.update(objects)
        await scene.wait(lambda: bad in scene.answered)


def test_worlds_live_through_the_upgrades() -> None:
    run_world(
        [
            Ask(1.0, "any", 5),
            Upgrade(5.0),
            Ask(6.0, "any", 5),
            Kill(6.6, 2.0),
            Reorg(12.0, 8, "moved"),
            Ask(13.0, "any", 5),
            Upgrade(18.0, only=True),
            Reorg(18.5, 10, "swapped"),
            Ask(20.0, "any", 5),
            Kill(21.0, 1.0),
        ]
    ).check()


@pytest.mark.parametrize(
    ("later", "option", "expires"),
    [(False, {}, False), (True, {}, True), (True, {"decryption_expiry": DAY}, False)],
)
async def test_a_decryption_expires_after_an_hour_where_the_network_is_one_of_0_15(
    later: bool, option: dict[str, float], expires: bool, tmp_path: Path
) -> None:
    """The option wins over what Decryption says of its version."""
    async with open_scene(tmp_path, block_time=60.0) as scene:
        if later:
            upgrade(scene)
        scene.dependencies.cores[0].strike(FailingCore(code="UNAVAILABLE"), "PublicDecrypt")
        async with scene.connected(decryption_polling=60.0, **option) as connector:
            await connector.wait_ready()
            await trio.sleep(60)
            [identifier] = await scene.ask("public")
            await scene.wait(lambda: scene.told(RequestRecorded))
            await trio.sleep(HOUR - 120)
            assert scene.told(RequestClosed) == []
            await trio.sleep(600)
        closed = [(one.id, one.state) for one in scene.told(RequestClosed)]
        assert closed == ([(identifier, State.EXPIRED)] if expires else [])
