"""A connection that ends at any step leaves nothing: no connection, place, byte of a body, or count of a key."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import h11
import pytest
import trio
import trio.testing

from tests.unit.serving.scene import KEY, Client, FakeDecryptions, Scene, key, public_body, serving

PUBLIC = "/v1/public-decrypt"
STEPS = 40
"""More than the connection's task and that which waits with it have."""


class AtStep(trio.abc.Instrument):
    """Calls once, before the server's tasks make their step of a number."""

    def __init__(self, number: int, strike: Callable[[], None]) -> None:
        self._number, self._strike = number, strike
        self.struck = False

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if "Server._attend" in task.name or task.name.endswith("._leave"):
            self._number -= 1
            if self._number == 0:
                self.struck = True
                self._strike()


async def posts(client: Client) -> None:
    """Post without a key and with one, the bodies behind the heads, and ask for a last answer."""
    bearer = {"Authorization": f"Bearer {KEY}"}
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
        await client.ask("POST", PUBLIC, public_body())
        await client.ask("POST", PUBLIC, public_body(), bearer)
        await client.ask("GET", "/version", None, {**bearer, "Connection": "close"})


def evict(scene: Scene, _client: Client) -> None:
    for connection in scene.service.answers.port.connections._open:
        connection.scope.cancel()


def leave(_scene: Scene, client: Client) -> None:
    """As a client whose machine is gone."""
    stream = client.stream
    assert isinstance(stream, trio.StapledStream)
    stream.send_stream.close()
    stream.receive_stream.close()


@pytest.mark.parametrize("strike", [evict, leave])
async def test_a_connection_that_ends_at_any_step_leaves_nothing(
    strike: Callable[[Scene, Client], None],
) -> None:
    struck = 0
    for number in range(1, STEPS + 1):
        async with serving(FakeDecryptions(seconds=1), keys=(key(max_in_flight=1),)) as scene:
            client = scene.client()
            at = AtStep(number, lambda scene=scene, client=client: strike(scene, client))  # type: ignore[misc]
            trio.lowlevel.add_instrument(at)
            await posts(client)
            await client.stream.aclose()
            await trio.sleep(100)
            trio.lowlevel.remove_instrument(at)
            struck += at.struck
            statistics = scene.service.statistics()
            assert (statistics.connections, statistics.waiting, statistics.body_bytes) == (0, 0, 0), number
            assert [one.in_flight for one in scene.service.answers.clients._clients] == [0], number
            assert (await scene.client().post(PUBLIC, public_body(), KEY)).status == 200, number
    assert 30 < struck < STEPS
