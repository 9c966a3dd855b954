"""One connection over a memory stream, in virtual time."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.events
import pytest
import trio
from trio.testing import MemorySendStream, memory_stream_pair, wait_all_tasks_blocked

from kmsconn.errors import Broken, Unreachable
from kmsconn.transport.grpc.frames import Allowance
from kmsconn.transport.grpc.link import FAREWELL, PING_TIMEOUT, QUIET, Link
from tests.behaviours import SCRIPTED, shows
from tests.left_behind import left_behind
from tests.unit.transport.grpc.servers import ANSWER, Listener


@asynccontextmanager
async def linked(**settings: int) -> AsyncIterator[tuple[Link, Listener, trio.Nursery]]:
    """Open a running link and the server at its other end."""
    client, server = memory_stream_pair()
    link, listener = Link(client, "host:50051"), Listener(server, **settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        nursery.start_soon(listener.run)
        await wait_all_tasks_blocked()
        yield link, listener, nursery
        nursery.cancel_scope.cancel()


async def fails_unreachable(link: Link, match: str) -> None:
    with pytest.raises(Unreachable, match=match):
        await link.unary("/t.P/M", [b"x"])


async def test_the_request_s_headers() -> None:
    async with linked() as (link, listener, nursery):
        with trio.move_on_after(75):
            nursery.start_soon(link.unary, "/t.P/M", [b"x"])
            await wait_all_tasks_blocked()
    assert listener.requests[1] == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/t.P/M",
        ":authority": "host:50051",
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "kmsconn",
    }


async def test_metadata_go_along_as_headers() -> None:
    async with linked() as (link, listener, nursery):
        with trio.move_on_after(75):
            nursery.start_soon(link.unary, "/t.P/M", [b"x"], [(b"traceparent", b"00-1-2-01")])
            await wait_all_tasks_blocked()
    assert listener.requests[1]["traceparent"] == "00-1-2-01"


async def test_a_call_at_its_deadline_is_reset_with_cancel() -> None:
    async with linked() as (link, listener, _):
        with trio.move_on_after(5):
            await link.unary("/t.P/M", [b"x"])
        await wait_all_tasks_blocked()
        resets = [event for event in listener.events if isinstance(event, h2.events.StreamReset)]
    assert [(event.stream_id, int(event.error_code)) for event in resets] == [(1, 8)]


async def test_a_call_given_up_before_it_was_written_does_no_harm() -> None:
    async with linked() as (link, listener, nursery):
        with trio.CancelScope() as scope:
            scope.cancel()
            await link.unary("/t.P/M", [bytes(1_000_000)])
        nursery.start_soon(link.unary, "/t.P/M", [b"x"])
        await wait_all_tasks_blocked()
        assert 3 in listener.requests
        await listener.answer(3)


@shows("a reply over our limit breaks its call only, at its first bytes", SCRIPTED)
@pytest.mark.parametrize(
    "data", [b"\1\0\0\0\1x", b"\0\0\0\0\1xy", b"\0\xff\xff\xff\xff"], ids=["compressed", "two", "too large"]
)
async def test_a_reply_that_is_none_breaks_only_its_call(data: bytes) -> None:
    async def ask() -> None:
        with pytest.raises(Broken):
            await link.unary("/t.P/M", [b"x"])

    async with linked() as (link, listener, nursery):
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        listener.h2.send_headers(1, ANSWER)
        listener.h2.send_data(1, data)
        await listener.flush()
        await wait_all_tasks_blocked()
        assert any(isinstance(event, h2.events.StreamReset) for event in listener.events)
        assert link.usable


async def test_when_the_peer_leaves_every_call_fails() -> None:
    async with linked() as (link, listener, nursery):
        nursery.start_soon(fails_unreachable, link, "host:50051: the peer closed")
        nursery.start_soon(fails_unreachable, link, "host:50051: the peer closed")
        await wait_all_tasks_blocked()
        await listener.stream.aclose()
        await wait_all_tasks_blocked()
        assert not link.usable


@shows("a protocol error ends the connection with a reason for the peer; calls are unreachable", SCRIPTED)
async def test_a_peer_that_breaks_the_protocol_is_told_why() -> None:
    client, server = memory_stream_pair()
    link, heard = Link(client, "host:50051"), b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        await server.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        async for chunk in server:
            heard += chunk
    assert heard.endswith(str(link.lost).partition(": ")[2].encode())
    assert trio.current_time() == 0


async def test_a_peer_that_breaks_the_protocol_and_takes_nothing_is_left() -> None:
    client, server = memory_stream_pair()
    link = Link(client, "host:50051")
    assert isinstance(client.send_stream, MemorySendStream)
    client.send_stream.send_all_hook = trio.sleep_forever
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        await server.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert trio.current_time() == FAREWELL


async def test_a_peer_that_takes_nothing_does_not_stop_reading() -> None:
    """The writer hangs in the stream; a reply still comes through."""
    client, server = memory_stream_pair()
    link, listener = Link(client, "host:50051"), Listener(server)
    replies: list[bytes] = []

    async def ask(size: int) -> None:
        replies.append(await link.unary("/t.P/M", [bytes(size)]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        nursery.start_soon(listener.run)
        nursery.start_soon(ask, 1)
        await wait_all_tasks_blocked()
        assert isinstance(client.send_stream, MemorySendStream)
        client.send_stream.send_all_hook = trio.sleep_forever
        nursery.start_soon(ask, 1_000_000)
        await wait_all_tasks_blocked()
        await listener.answer(1)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert replies == [b"ok"]


@shows("the connection to a frozen server ends after a deadline", SCRIPTED)
async def test_a_silent_peer_is_asked_and_then_left() -> None:
    client, _server = memory_stream_pair()
    link = Link(client, "host:50051")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        await fails_unreachable(link, "silent for 45 s")
    assert trio.current_time() == QUIET + PING_TIMEOUT


@shows("our pings are answered: a long call on a silent connection goes on", SCRIPTED)
async def test_a_peer_that_answers_pings_is_not_left() -> None:
    async with linked() as (link, listener, _):
        with trio.move_on_after(1000) as scope:
            await link.unary("/t.P/M", [b"x"])
        assert scope.cancelled_caught
        assert link.usable
        assert any(isinstance(event, h2.events.PingReceived) for event in listener.events)


async def test_nothing_is_asked_while_no_call_waits() -> None:
    async with linked() as (_, listener, _nursery):
        await trio.sleep(1000)
        assert not [event for event in listener.events if isinstance(event, h2.events.PingReceived)]


# Large replies.

MIB = 1024 * 1024


async def begin(listener: Listener, stream: int, size: int) -> None:
    """Send the headers of a reply and its length."""
    listener.h2.send_headers(stream, ANSWER)
    listener.h2.send_data(stream, b"\0" + size.to_bytes(4))
    await listener.flush()
    await wait_all_tasks_blocked()


async def finish(listener: Listener, stream: int, size: int) -> None:
    """Send the message as the windows allow, and the end."""
    while size:
        room = min(size, listener.h2.local_flow_control_window(stream), listener.h2.max_outbound_frame_size)
        if room:
            listener.h2.send_data(stream, bytes(room))
            size -= room
            await listener.flush()
        else:
            await trio.sleep(0.01)
    listener.h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
    await listener.flush()


@shows("large replies wait for their budget in order; small ones do not wait", SCRIPTED)
async def test_large_replies_come_one_after_another_where_there_is_room_for_one() -> None:
    client, server = memory_stream_pair()
    allowance, replies = Allowance(5 * MIB), list[int]()
    link, listener = Link(client, "host:50051", allowance=allowance), Listener(server)

    async def ask() -> None:
        replies.append(len(await link.unary("/t.P/M", [b"x"])))

    async with trio.open_nursery() as nursery:
        for task in (link.run, listener.run, ask, ask, ask):
            nursery.start_soon(task)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as serving:
            await begin(listener, 1, 4 * MIB)
            await begin(listener, 3, 3 * MIB)
            assert allowance.used == 4 * MIB
            serving.start_soon(finish, listener, 3, 3 * MIB)
            await trio.sleep(1)
            await listener.answer(5)
            await trio.sleep(1)
            assert replies == [2]
            assert listener.h2.local_flow_control_window(3) == 0
            await finish(listener, 1, 4 * MIB)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert replies == [2, 4 * MIB, 3 * MIB]
    assert allowance.used == 0


async def test_a_large_reply_that_is_given_up_gives_its_room_back() -> None:
    client, server = memory_stream_pair()
    allowance = Allowance(5 * MIB)
    link, listener = Link(client, "host:50051", allowance=allowance), Listener(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        nursery.start_soon(listener.run)
        with trio.move_on_after(1):
            async with trio.open_nursery() as calls:
                for _ in range(2):
                    calls.start_soon(link.unary, "/t.P/M", [b"x"])
                await wait_all_tasks_blocked()
                for stream in (1, 3):
                    await begin(listener, stream, 4 * MIB)
                assert allowance.used == 4 * MIB
        assert allowance.used == 0
        nursery.cancel_scope.cancel()


async def test_a_large_reply_is_gone_when_its_call_ends() -> None:
    """Reproduced: each reply above a window stayed, 4 GiB of a Core with results of 20 MB; its claim held its call."""
    async with linked() as (link, listener, nursery):
        streams = itertools.count(1, 2)

        async def answer(stream: int) -> None:
            await wait_all_tasks_blocked()
            await begin(listener, stream, 2 * MIB)
            await finish(listener, stream, 2 * MIB)

        async def call() -> None:
            nursery.start_soon(answer, next(streams))
            assert len(await link.unary("/t.P/M", [b"x"])) == 2 * MIB

        assert await left_behind(call) < MIB
