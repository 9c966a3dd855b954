"""What a bounded pipe does to bytes, in virtual time."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from kmsconn.emulator.pipes import Direction, PipeConnection


def joined(
    there: Direction | None = None, back: Direction | None = None, capacity: int = 64
) -> PipeConnection:
    return PipeConnection.between(there or Direction(), back or Direction(), capacity)


async def all_of(stream: trio.abc.Stream) -> bytes:
    return b"".join([bytes(piece) async for piece in stream])


async def test_a_waiting_sender_goes_on_when_the_other_end_reads() -> None:
    pair = joined(capacity=10)

    async def send() -> None:
        await pair.client.send_all(bytes(1000))
        await pair.client.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert await all_of(pair.server) == bytes(1000)


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
