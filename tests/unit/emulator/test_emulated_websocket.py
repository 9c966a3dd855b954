"""A websocket served without trio-websocket's tasks, spoken to by wsproto."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from kmsconn.emulator.network import Direction, PipeConnection
from kmsconn.emulator.websocket import WebSocket, WebSocketClosed, accept_websocket

LARGEST = 1000


class Client:
    """A client's end, read by hand."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream, self.wire, self.pieces = stream, WSConnection(ConnectionType.CLIENT), 0

    async def send(self, *events: Event) -> None:
        await self.stream.send_all(b"".join(self.wire.send(event) for event in events))

    async def receive(self) -> list[Event]:
        """Return the events of what comes next, in one piece."""
        data = await self.stream.receive_some()
        self.wire.receive_data(bytes(data) or None)
        return list(self.wire.events())


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[Client, WebSocket]]:
    pair = PipeConnection.between(Direction(), Direction())
    client = Client(pair.client)
    await client.send(Request("dependency", "/path"))
    socket = await accept_websocket(pair.server, LARGEST)
    assert socket is not None
    assert isinstance((await client.receive())[0], AcceptConnection)
    yield client, socket


async def test_messages_are_texts_and_bytes() -> None:
    async with opened() as (client, socket):
        await client.send(TextMessage("one"), BytesMessage(b"two"))
        assert [await socket.get_message(), await socket.get_message()] == ["one", b"two"]


async def test_a_message_in_fragments_is_one() -> None:
    async with opened() as (client, socket):
        await client.send(TextMessage("on", message_finished=False), TextMessage("e"), TextMessage("two"))
        assert [await socket.get_message(), await socket.get_message()] == ["one", "two"]


async def test_messages_that_are_sent_together_come_in_one_piece() -> None:
    async with opened() as (client, socket):
        await socket.send_messages(["one", "two"])
        assert [event.data for event in await client.receive() if isinstance(event, TextMessage)] == [
            "one",
            "two",
        ]


async def test_a_ping_is_answered_while_a_message_is_waited_for() -> None:
    async with opened() as (client, socket), trio.open_nursery() as nursery:
        nursery.start_soon(socket.get_message)
        await client.send(Ping(b"x"))
        assert await client.receive() == [Pong(b"x")]
        await client.send(TextMessage("end"))


async def test_a_client_that_closes_is_answered_and_ends_the_messages() -> None:
    async with opened() as (client, socket):
        await client.send(TextMessage("last"), CloseConnection(1000))
        assert await socket.get_message() == "last"
        with pytest.raises(WebSocketClosed):
            await socket.get_message()
        assert isinstance((await client.receive())[-1], CloseConnection)
        with pytest.raises(WebSocketClosed):
            await socket.send_message("late")


@pytest.mark.parametrize("sizes", [[LARGEST + 1], [LARGEST, 1]])
async def test_a_message_that_is_too_large_ends_the_connection(sizes: list[int]) -> None:
    async with opened() as (client, socket):
        pieces = [BytesMessage(bytes(size), message_finished=False) for size in sizes]
        await client.send(*pieces, BytesMessage(b"end"), Ping())
        with pytest.raises(WebSocketClosed):
            await socket.get_message()
        (farewell,) = await client.receive()
        assert isinstance(farewell, CloseConnection)
        assert farewell.code == 1009


async def test_what_is_no_frame_ends_the_connection() -> None:
    async with opened() as (client, socket):
        await client.stream.send_all(b"\xff" * 20)
        with pytest.raises(WebSocketClosed):
            await socket.get_message()
        (farewell,) = await client.receive()
        assert isinstance(farewell, CloseConnection)
        assert farewell.code == 1002


async def test_closing_waits_for_the_client() -> None:
    async with opened() as (client, socket), trio.open_nursery() as nursery:
        nursery.start_soon(socket.aclose)
        (farewell,) = await client.receive()
        assert isinstance(farewell, CloseConnection)
        await client.send(farewell.response())
        assert await client.stream.receive_some() == b""


async def test_bytes_after_both_have_closed_are_no_fault_of_the_server() -> None:
    async with opened() as (client, socket):
        await client.send(CloseConnection(1000))
        with pytest.raises(WebSocketClosed):
            await socket.get_message()
        await client.stream.send_all(b"more")
        await client.stream.aclose()
        await socket.aclose()


async def test_a_slow_client_holds_back_the_next_message() -> None:
    async with opened() as (client, socket), trio.open_nursery() as nursery:
        nursery.start_soon(socket.send_message, "x" * 200_000)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(socket.send_message, "y")
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 2
        texts = ""
        while "y" not in texts:
            texts += "".join(event.data for event in await client.receive() if isinstance(event, TextMessage))
    assert texts == "x" * 200_000 + "y"


async def test_a_client_that_wants_no_websocket_is_refused() -> None:
    pair = PipeConnection.between(Direction(), Direction())
    await pair.client.send_all(b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n")
    assert await accept_websocket(pair.server, LARGEST) is None
    assert b" 400 " in await pair.client.receive_some()
