"""Health is red within 15 seconds of the moment at which nothing passes any more, and stays green in days that are odd but honest."""

from __future__ import annotations

import pytest
import trio

from kmsconn.config.description import AttestationMode
from kmsconn.emulator.buckets import RefusingBucket
from tests.faults.scene import Scene
from tests.faults.test_health_table import FORMS, alert

pytestmark = [pytest.mark.once, pytest.mark.sampled]


async def test_one_dead_bucket_is_critical_at_once_if_every_quorum_needs_it(scene: Scene) -> None:
    async with scene.connected(attestation=AttestationMode.ENFORCE) as connector:
        await connector.wait_ready()
        await scene.wait_answered(await scene.ask(*FORMS))
        repair = scene.dependencies.buckets[1].strike(RefusingBucket(code=500))
        ids = await scene.ask("public")
        await trio.sleep(9)
        assert scene.http("/healthz").status == 200
        await trio.sleep(4)
        assert scene.http("/healthz").status == 503
        found = alert(scene, "buckets", "calls-fail")
        assert found is not None
        assert found.critical
        assert "1 of 2 buckets answer, and a quorum needs 2" in found.text
        repair()
        await scene.wait_answered(ids)
        await scene.wait(lambda: scene.http("/healthz").status == 200, 5)
