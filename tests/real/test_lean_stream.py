"""The TCP stream below all clients, over loopback sockets: what it sends arrives, what breaks has Trio's errors."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from kmsconn.transport.dialling import LeanStream

LARGE = 8 << 20  # bytes: more than the kernel holds for a peer that reads nothing


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[LeanStream, trio.SocketStream]]:
    """Two ends of one connection: ours and the peer's."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        stream = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        peer = await listener.accept()
        async with LeanStream(stream) as ours, peer:
            yield ours, peer


async def receive_all(stream: trio.abc.ReceiveStream, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        received += await stream.receive_some(65536)
    return bytes(received)


async def test_what_is_sent_arrives_both_ways() -> None:
    async with pair() as (ours, peer):
        await ours.send_all(b"there")
        assert await receive_all(peer, 5) == b"there"
        await peer.send_all(b"back")
        assert await receive_all(ours, 4) == b"back"


async def test_more_than_the_kernel_holds_waits_for_the_peer_and_arrives_whole() -> None:
    data = bytes(range(256)) * (LARGE // 256)
    async with pair() as (ours, peer), trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, data)
        assert await receive_all(peer, LARGE) == data


async def test_a_send_that_waits_can_be_cancelled() -> None:
    async with pair() as (ours, _peer):
        with trio.move_on_after(0.05) as scope:
            await ours.send_all(bytes(LARGE))
        assert scope.cancelled_caught


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with pair() as (ours, peer):
        with trio.move_on_after(0.01):
            await ours.receive_some()
        await peer.send_all(b"late")
        assert await receive_all(ours, 4) == b"late"


async def test_a_receive_lets_other_tasks_run_though_data_is_there() -> None:
    async with pair() as (ours, peer):
        await peer.send_all(b"x")
        with trio.testing.assert_checkpoints():
            await ours.receive_some(1)


async def test_the_peers_end_is_empty_bytes() -> None:
    async with pair() as (ours, peer):
        await peer.send_eof()
        assert await ours.receive_some() == b""


async def test_our_end_reaches_the_peer_and_leaves_the_other_way_open() -> None:
    async with pair() as (ours, peer):
        await ours.send_eof()
        assert await peer.receive_some() == b""
        await peer.send_all(b"still")
        assert await receive_all(ours, 5) == b"still"


async def test_it_is_readable_once_something_came() -> None:
    async with pair() as (ours, peer):
        assert not ours.is_readable()
        await peer.aclose()
        await ours.receive_some()
        assert ours.is_readable()


async def test_a_connection_that_is_reset_is_broken() -> None:
    async with pair() as (ours, peer):
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await peer.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await ours.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await ours.send_all(b"x")


async def test_a_closed_stream_says_so_and_closes_twice() -> None:
    async with pair() as (ours, _peer):
        await ours.aclose()
        await ours.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await ours.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await ours.wait_send_all_might_not_block()


async def test_who_receives_while_it_is_closed_is_told() -> None:
    async with pair() as (ours, _peer), trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await ours.receive_some()

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await ours.aclose()
