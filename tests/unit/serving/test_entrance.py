"""A crowd that connects faster than TLS can be agreed on: who of them is next, and who has been let in before."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import h11
import pytest
import trio
import trio.testing

from kmsconn.serving import exchange
from kmsconn.serving.exchange import ENTRANCE_SECONDS
from tests.unit.serving.scene import KEY, Client, Scene, key, public_body, serving

PUBLIC = "/v1/public-decrypt"
CROWD_PER_SECOND = 400
CROWD_SECONDS = 15


class Addresses:
    """Connects clients to a scene from addresses of the test's choice."""

    def __init__(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        self._scene = scene
        self._of_stream: dict[trio.abc.Stream, str] = {}
        monkeypatch.setattr(exchange, "_address", self._of_stream.__getitem__)

    def client(self, address: str) -> Client:
        """Return a client of a new connection from an address."""
        ours, theirs = trio.testing.memory_stream_pair()
        self._of_stream[theirs] = address
        self._scene.listener.offer(theirs)
        return Client(ours)

    async def crowd(self, addresses: int, name: str = "stranger") -> None:
        """Connect from so many addresses in turn for ever, and never say anything."""
        for number in itertools.count():
            self.client(f"{name} {number % addresses}")
            await trio.sleep(1 / CROWD_PER_SECOND)


@asynccontextmanager
async def crowded(
    monkeypatch: pytest.MonkeyPatch, addresses: int, name: str = "stranger"
) -> AsyncIterator[tuple[Client, Addresses]]:
    """A relayer that was let in once, and after it a crowd that has used up the burst."""
    async with serving(keys=(key(),)) as scene, trio.open_nursery() as nursery:
        connecting = Addresses(scene, monkeypatch)
        relayer = connecting.client("relayer 0")
        assert (await relayer.post(PUBLIC, public_body(), KEY)).status == 200
        nursery.start_soon(connecting.crowd, addresses, name)
        await trio.sleep(CROWD_SECONDS)
        yield relayer, connecting
        nursery.cancel_scope.cancel()


async def seconds_of_a_post(client: Client) -> float:
    """Return how long a client waits for its answer."""
    started = trio.current_time()
    assert (await client.post(PUBLIC, public_body(), KEY)).status == 200
    return trio.current_time() - started


async def test_who_was_let_in_before_goes_on_in_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    async with crowded(monkeypatch, 200) as (_, connecting):
        for _ in range(20):
            assert await seconds_of_a_post(connecting.client("relayer 0")) <= 0.1


@pytest.mark.parametrize("addresses", [200, 100_000])
async def test_a_kept_connection_outlives_a_crowd(monkeypatch: pytest.MonkeyPatch, addresses: int) -> None:
    async with crowded(monkeypatch, addresses) as (relayer, _):
        assert await seconds_of_a_post(relayer) == 0


async def test_a_new_client_gets_in_through_a_crowd_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    async with crowded(monkeypatch, 200) as (_, connecting):
        for number in range(5):
            assert await seconds_of_a_post(connecting.client(f"new relayer {number}")) <= 1


@pytest.mark.parametrize(("addresses", "address"), [(100_000, "new relayer"), (1, "stranger 0")])
async def test_one_in_three_gets_in_where_addresses_tell_nothing(
    monkeypatch: pytest.MonkeyPatch, addresses: int, address: str
) -> None:
    """All come from addresses of their own, or through a balancer that hides them."""
    let_in = 0
    async with crowded(monkeypatch, addresses) as (_, connecting):
        for number in range(30):
            client = connecting.client(address if addresses == 1 else f"{address} {number}")
            with suppress(h11.RemoteProtocolError), trio.move_on_after(1):
                let_in += (await client.ask("GET", "/version")).status == 401
            await trio.sleep(0.1)
    assert let_in >= 10


async def test_strangers_get_in_beside_a_crowd_of_a_client_that_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with crowded(monkeypatch, 1, "relayer") as (_, connecting):
        for number in range(5):
            assert await seconds_of_a_post(connecting.client(f"new relayer {number}")) <= 1.1


async def test_who_waits_too_long_for_its_turn_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with crowded(monkeypatch, 1, "relayer") as (_, connecting):
        started = trio.current_time()
        waiting = [connecting.client("stranger") for _ in range(20)]
        assert await waiting[0].until_closed() == b""
        assert ENTRANCE_SECONDS <= trio.current_time() - started <= ENTRANCE_SECONDS + 0.1
