"""A Core whose start failed inside it: the id is taken, ALREADY_EXISTS, and there is no result before it restarts."""

from __future__ import annotations

import pytest
import trio

from kmsconn.connector.connector import Connector
from kmsconn.emulator.core_faults import SpoiledCore
from kmsconn.model.events import AlertCleared, AlertRaised
from kmsconn.requests.failures import RESULT_LATE_AFTER, TAKEN
from tests.faults.scene import Scene

pytestmark = pytest.mark.rotating

SOON = 2 * RESULT_LATE_AFTER


def raised(scene: Scene) -> list[AlertRaised]:
    return [one for one in scene.told(AlertRaised) if one.cause == TAKEN]


async def test_a_taken_id_is_an_alert_with_its_remedy_until_that_is_done(
    scene: Scene, connector: Connector
) -> None:
    """Several requests are one alert with their number; the restart of the Core answers all of them."""
    core = scene.dependencies.cores[0]
    core.script("PublicDecrypt", SpoiledCore(how="share lost"), SpoiledCore(how="share lost"))
    begin = trio.current_time()
    burnt = await scene.ask("public", "public")
    good = await scene.ask("public")
    await scene.wait(lambda: any(one.count == len(burnt) for one in raised(scene)), SOON)
    assert trio.current_time() - begin >= RESULT_LATE_AFTER
    alert = raised(scene)[-1]
    assert (alert.dependency, alert.critical) == ("core[0]", False)
    assert "ALREADY_EXISTS" in alert.text
    assert "restart this Core" in alert.remedy
    assert scene.answered == {*good}
    core.core.restart()
    await scene.wait(lambda: scene.answered == {*burnt, *good})
    assert AlertCleared("core[0]", TAKEN) in scene.events


async def test_a_connector_that_begins_anew_knows_it_too(scene: Scene) -> None:
    scene.dependencies.cores[0].script("PublicDecrypt", SpoiledCore(how="share lost"))
    async with scene.connected() as connector:
        await connector.wait_ready()
        await scene.ask("public")
        await trio.sleep(RESULT_LATE_AFTER / 2)
        assert raised(scene) == []
    async with scene.connected():
        await scene.wait(lambda: raised(scene), SOON)


async def test_a_core_that_is_slow_with_what_it_was_given_is_none(scene: Scene, connector: Connector) -> None:
    scene.dependencies.cores[0].core.computing = 3 * RESULT_LATE_AFTER
    await scene.ask("public")
    await scene.wait(lambda: scene.answered, 4 * RESULT_LATE_AFTER)
    assert raised(scene) == []
