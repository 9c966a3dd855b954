"""Who reaches whom, on the memory network and on loopback addresses; and what a bounded pipe does to bytes."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from kmsconn.emulator.network import Direction, MemoryNetwork, PipeConnection, serve_sockets


async def echo(stream: trio.abc.Stream) -> None:
    async for piece in stream:
        await stream.send_all(piece)


async def crash(stream: trio.abc.Stream) -> None:
    await trio.lowlevel.checkpoint()
    raise ZeroDivisionError


@pytest.fixture
async def network(nursery: trio.Nursery) -> MemoryNetwork:
    made = MemoryNetwork()
    await nursery.start(made.run)
    return made


async def test_a_refusing_line_refuses_until_told_otherwise(network: MemoryNetwork) -> None:
    network.serve("core", 1, echo)
    network.line("core", 1).refuse = True
    with pytest.raises(ConnectionRefusedError):
        await network("core", 1)
    network.line("core", 1).refuse = False
    await (await network("core", 1)).aclose()


async def test_an_unreachable_place_hangs_the_dialling(network: MemoryNetwork) -> None:
    network.serve("core", 1, echo)
    network.line("core", 1).unreachable = True
    with pytest.raises(trio.TooSlowError), trio.fail_after(100):
        await network("core", 1)


async def test_a_mute_place_accepts_and_says_nothing(network: MemoryNetwork) -> None:
    network.serve("core", 1, echo)
    network.line("core", 1).mute = True
    stream = await network("core", 1)
    await stream.send_all(b"hello?")
    with pytest.raises(trio.TooSlowError), trio.fail_after(100):
        await stream.receive_some()


async def test_latency_is_counted_each_way(network: MemoryNetwork) -> None:
    network.serve("core", 1, echo)
    line = network.line("core", 1)
    line.there.latency, line.back.latency = 1, 2
    stream = await network("core", 1)
    start = trio.current_time()
    await stream.send_all(b"x")
    await stream.receive_some()
    assert trio.current_time() == start + 3


async def test_a_cut_ends_all_connections_of_a_place_and_only_those(network: MemoryNetwork) -> None:
    network.serve("core", 1, echo)
    network.serve("core", 2, echo)
    first, second, other = [await network("core", port) for port in (1, 1, 2)]
    await trio.testing.wait_all_tasks_blocked()
    assert network.line("core", 1).cut() == 2
    for stream in (first, second):
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
    await other.send_all(b"x")
    assert await other.receive_some() == b"x"
    await trio.testing.wait_all_tasks_blocked()
    assert network.crashes == [], "a cut is no crash"


async def test_a_crashed_handler_ends_its_connection_and_is_kept(network: MemoryNetwork) -> None:
    network.serve("core", 1, crash)
    stream = await network("core", 1)
    assert await stream.receive_some() == b""
    await trio.testing.wait_all_tasks_blocked()
    (group,) = network.crashes
    assert isinstance(group, ExceptionGroup)
    assert isinstance(group.exceptions[0], ZeroDivisionError)


async def test_a_finished_connection_is_no_longer_open(network: MemoryNetwork) -> None:
    network.serve("core", 1, echo)
    stream = await network("core", 1)
    await trio.testing.wait_all_tasks_blocked()
    assert len(network.line("core", 1).open) == 1
    await stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert network.line("core", 1).open == []


async def test_cancelling_the_network_closes_its_connections() -> None:
    network = MemoryNetwork()
    network.serve("core", 1, echo)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        stream = await network("core", 1)
        nursery.cancel_scope.cancel()
    assert await stream.receive_some() == b""


async def test_sockets_are_opened_on_loopback_addresses_only() -> None:
    with pytest.raises(ValueError, match="loopback"):
        await serve_sockets(echo, "0.0.0.0")


def joined(
    there: Direction | None = None, back: Direction | None = None, capacity: int = 64
) -> PipeConnection:
    return PipeConnection.between(there or Direction(), back or Direction(), capacity)


async def test_latency_delays_arrival_and_not_sending() -> None:
    pair = joined(there=Direction(latency=0.25))
    start = trio.current_time()
    await pair.client.send_all(b"x")
    assert trio.current_time() == start
    await pair.server.receive_some()
    assert trio.current_time() == start + 0.25


async def test_lost_bytes_never_arrive() -> None:
    direction = Direction(lost=True)
    pair = joined(there=direction)
    await pair.client.send_all(b"gone")
    direction.lost = False
    await pair.client.send_all(b"here")
    assert await pair.server.receive_some() == b"here"


async def test_a_cut_loses_what_is_on_the_way_and_breaks_both_ends() -> None:
    pair = joined()
    await pair.client.send_all(b"lost")
    pair.cut()
    for end in (pair.client, pair.server):
        with pytest.raises(trio.BrokenResourceError):
            await end.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await end.send_all(b"x")


async def test_a_cut_wakes_who_receives_and_who_sends() -> None:
    pair = joined(capacity=4)

    async def receive() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await pair.client.receive_some()

    async def send() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await pair.client.send_all(bytes(100))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        pair.cut()


async def test_trio_takes_it_for_a_stream() -> None:
    """Trio's own conformance suite for streams."""

    async def make() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        await trio.lowlevel.checkpoint()
        pair = joined(capacity=1000)
        return pair.client, pair.server

    async def make_clogged() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        pair = joined(capacity=1)
        await pair.client.send_all(b"x")
        await pair.server.send_all(b"x")
        return pair.client, pair.server

    await trio.testing.check_two_way_stream(make, make_clogged)
