"""How a connector ends: from the inside out, within the grace, with nothing lost; and how it refuses to begin."""

from __future__ import annotations

import pytest
import trio

from kmsconn.connector.connector import Connector, serve
from kmsconn.emulator import core_faults
from kmsconn.errors import StartRefused
from kmsconn.model.events import AnswerKept, ReplyIncluded, ReplySent, RequestRecorded
from tests.faults.scene import Scene

GRACE = 20.0


async def drain(connector: Connector) -> float:
    """Drain and return how many seconds it took."""
    started = trio.current_time()
    connector.drain()
    await connector.wait_drained()
    return trio.current_time() - started


# Draining.


async def test_an_idle_connector_drains_at_once(scene: Scene) -> None:
    async with scene.open() as connector:
        await connector.wait_ready()
        assert await drain(connector) < 2


async def test_draining_before_anything_answered_ends_too(scene: Scene) -> None:
    for name in ("gateway", "ethereum", "host", "core0"):
        scene.network.line(name, 80).unreachable = True
    async with scene.open(drain_grace=GRACE) as connector:
        await trio.sleep(1)
        assert await drain(connector) <= GRACE + 1


async def test_draining_twice_is_draining_once(scene: Scene) -> None:
    async with scene.open() as connector:
        connector.drain()
        await drain(connector)
        connector.drain()
        await connector.wait_drained()


async def test_leaving_the_block_drains(scene: Scene) -> None:
    async with scene.open() as connector:
        pass
    await connector.wait_drained()


async def test_nothing_new_is_heard_while_draining(scene: Scene) -> None:
    [first] = await scene.ask("public")
    async with scene.open() as connector:
        await scene.wait(lambda: scene.told(ReplySent))
        connector.drain()
        [second] = await scene.ask("public")
        await connector.wait_drained()
        assert [event.id for event in scene.told(RequestRecorded)] == [first]
        assert scene.answered == {first}
    async with scene.connected():
        await scene.wait(lambda: scene.answered == {first, second})


async def test_what_is_answered_is_still_included(scene: Scene) -> None:
    ids = await scene.ask("public", "direct", "unified")
    async with scene.open() as connector:
        await scene.wait(lambda: len(scene.told(AnswerKept)) == 3)
        assert await drain(connector) < GRACE
    assert scene.answered == set(ids)
    assert len(scene.told(ReplyIncluded)) == 3


async def test_what_is_not_answered_is_given_back_at_once_and_goes_on_with_the_next(scene: Scene) -> None:
    [identifier] = await scene.ask("public")
    chance = scene.core_does(core_faults.SlowCore(seconds=50.0), identifier, "GetPublicDecryptionResult")
    async with scene.open() as connector:
        await scene.wait(lambda: scene.dependencies.cores[0].counts["PublicDecrypt", "OK"])
        await trio.sleep(1)
        assert await drain(connector) < 2
    assert scene.answered == set()
    chance()
    async with scene.connected():
        await scene.wait(lambda: scene.answered == {identifier})


async def test_a_chain_that_stands_still_is_waited_for_as_long_as_the_grace(scene: Scene) -> None:
    [identifier] = await scene.ask("public")
    scene.dependencies.gateway.stalled = True
    async with scene.open(drain_grace=GRACE) as connector:
        await scene.wait(lambda: scene.told(AnswerKept))
        assert await drain(connector) == pytest.approx(GRACE, abs=1.0)
    scene.dependencies.gateway.stalled = False
    async with scene.connected():
        await scene.wait(lambda: scene.answered == {identifier})


async def test_a_second_signal_does_not_wait_for_the_transaction_managers(scene: Scene) -> None:
    [identifier] = await scene.ask("public")
    scene.dependencies.gateway.stalled = True
    async with scene.open(drain_grace=GRACE) as connector:
        await scene.wait(lambda: scene.told(AnswerKept))
        connector.drain()
        await trio.sleep(1)
        connector.hurry()
        with trio.fail_after(1):
            await connector.wait_drained()
    scene.dependencies.gateway.stalled = False
    async with scene.connected():
        await scene.wait(lambda: scene.answered == {identifier})


# Statistics, readiness.


async def test_statistics_follow_a_request(scene: Scene) -> None:
    await scene.ask("public")
    async with scene.open() as connector:
        before = connector.statistics()
        assert (before.ready, before.draining, before.queue.counts) == (False, False, None)
        await scene.wait(lambda: scene.told(ReplyIncluded))
        await trio.sleep(2)
        during = connector.statistics()
        await drain(connector)
        after = connector.statistics()
    assert (during.ready, during.ciphertexts.bytes_held, set(during.queue.busy.values())) == (True, 0, {0})
    assert during.chains["gateway"].head is not None
    assert all(cursor > 0 for cursor in during.cursors.values())
    assert during.queue.counts is not None
    assert sum(during.queue.counts.states.values()) == 1
    assert after.draining


@pytest.mark.parametrize("name", ["gateway", "ethereum", "host", "core0"])
async def test_it_is_ready_only_once_every_dependency_has_answered(name: str, scene: Scene) -> None:
    scene.network.line(name, 80).refuse = True
    async with scene.connected() as connector:
        with trio.move_on_after(30) as scope:
            await connector.wait_ready()
        assert scope.cancelled_caught
        scene.network.line(name, 80).refuse = False
        with trio.fail_after(30):
            await connector.wait_ready()


async def test_serve_starts_once_everything_is_ready_and_ends_when_drained(scene: Scene) -> None:
    settings = scene.settings()
    ports = scene.ports()
    async with trio.open_nursery() as nursery:
        connector = await nursery.start(
            lambda task_status: serve(settings, ports=ports, task_status=task_status)
        )
        assert connector.statistics().ready
        connector.drain()


# Refusing to begin.


async def test_two_connectors_do_not_share_a_journal(scene: Scene) -> None:
    async with scene.open():
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - alone or in a group
            async with scene.open():
                pytest.fail("it runs beside the first")
    assert leaf_of(caught.value, StartRefused)


async def test_a_threshold_of_zero_is_refused(scene: Scene) -> None:
    config = scene.dependencies.gateway_config
    scene.dependencies.gateway.evm.set_up(config.address, config.set_coprocessors, [], 0)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with scene.open() as connector:
            await connector.wait_drained()
    assert leaf_of(caught.value, StartRefused)


async def test_a_chain_with_another_id_is_refused(scene: Scene) -> None:
    scene.network.serve("ethereum", 80, scene.dependencies.handler("host"))
    with pytest.raises(BaseExceptionGroup) as caught:
        async with scene.open() as connector:
            await connector.wait_drained()
    refused = leaf_of(caught.value, StartRefused)
    assert "ethereum" in str(refused)


def leaf_of(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """Return the first exception of a kind inside groups."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for one in error.exceptions if (found := leaf_of(one, kind))), None)
    return error if isinstance(error, kind) else None
