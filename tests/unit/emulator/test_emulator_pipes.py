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


async def test_a_sender_waits_while_the_pipe_is_full() -> None:
    pair = joined(capacity=10)
    with trio.move_on_after(1) as scope:
        await pair.client.send_all(bytes(30))
    assert scope.cancelled_caught


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


async def test_pieces_sent_together_arrive_together_after_one_latency() -> None:
    pair = joined(there=Direction(latency=1))
    start = trio.current_time()
    await pair.client.send_all(b"x")
    await pair.client.send_all(b"y")
    await pair.server.receive_some()
    await pair.server.receive_some()
    assert trio.current_time() == start + 1


async def test_a_slow_line_takes_its_time_for_all_bytes() -> None:
    pair = joined(there=Direction(bytes_per_second=20), capacity=1000)
    start = trio.current_time()
    await pair.client.send_all(bytes(100))
    await pair.client.aclose()
    await all_of(pair.server)
    assert trio.current_time() - start == pytest.approx(5)


async def test_a_slow_line_dribbles() -> None:
    pair = joined(there=Direction(bytes_per_second=20), capacity=1000)
    await pair.client.send_all(bytes(100))
    assert len(await pair.server.receive_some()) == 2


async def test_lost_bytes_never_arrive() -> None:
    direction = Direction(lost=True)
    pair = joined(there=direction)
    await pair.client.send_all(b"gone")
    direction.lost = False
    await pair.client.send_all(b"here")
    assert await pair.server.receive_some() == b"here"


async def test_closing_lets_what_is_on_the_way_arrive() -> None:
    pair = joined(there=Direction(latency=3))
    await pair.client.send_all(b"last words")
    await pair.client.aclose()
    assert await all_of(pair.server) == b"last words"


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


async def test_a_cancelled_receive_loses_nothing() -> None:
    pair = joined(there=Direction(latency=2))
    await pair.client.send_all(b"x")
    with trio.move_on_after(1):
        await pair.server.receive_some()
    assert await pair.server.receive_some() == b"x"


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
