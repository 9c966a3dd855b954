"""The HTTP server, spoken to in plain bytes, with h11 and by a websocket client, over memory pipes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import h11
import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, wrap_client_stream

from kmsconn.emulator.http import (
    Handler,
    HangUp,
    HttpRequest,
    HttpResponse,
    Send,
    WebsocketHandler,
    serve_http,
)
from kmsconn.emulator.network import Direction, PipeConnection
from kmsconn.emulator.websocket import WebSocket

SIZE = 1000  # bytes of a pipelined request
FEW = 100  # answers, until none comes any more


@asynccontextmanager
async def served(
    handler: Handler, *, websocket: WebsocketHandler | None = None, max_body: int = 1000
) -> AsyncIterator[trio.abc.Stream]:
    """A client's stream to a server."""
    pair = PipeConnection.between(Direction(), Direction())

    async def serve() -> None:
        async with pair.server:
            await serve_http(pair.server, handler, websocket=websocket, max_body=max_body)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield pair.client
        nursery.cancel_scope.cancel()


class Asker:
    """An h11 client. A request without a body names its length all the same, unless the client is ``plain``."""

    def __init__(self, stream: trio.abc.Stream, *, plain: bool = False) -> None:
        self.stream, self.plain = stream, plain
        self.h11 = h11.Connection(h11.CLIENT)

    async def ask(
        self,
        method: str = "GET",
        target: str = "/",
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> tuple[int, dict[str, str], bytes]:
        length = [] if self.plain and not body else [("content-length", str(len(body)))]
        fields = [("host", "dependency"), *length, *headers]
        await self.send(h11.Request(method=method, target=target, headers=fields))
        await self.send(h11.Data(data=body))
        await self.send(h11.EndOfMessage())
        answer = await self.answer()
        self.h11.start_next_cycle()
        return answer

    async def send(self, event: h11.Event) -> None:
        await self.stream.send_all(self.h11.send(event) or b"")

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head, body = await self.event(), b""
        while isinstance(event := await self.event(), h11.Data):
            body += event.data
        assert isinstance(head, h11.Response)
        return head.status_code, {name.decode(): value.decode() for name, value in head.headers}, body

    async def event(self) -> object:
        while (event := self.h11.next_event()) is h11.NEED_DATA:
            self.h11.receive_data(bytes(await self.stream.receive_some()))
        return event


async def mirror(request: HttpRequest) -> HttpResponse:
    await trio.lowlevel.checkpoint()
    text = f"{request.method} {request.target} {request.body.decode()}"
    return HttpResponse(200, (("x-seen", request.header("X-Asked") or "-"),), text.encode())


async def hang(request: HttpRequest) -> HttpResponse:
    await trio.sleep_forever()
    raise AssertionError


async def test_a_request_reaches_the_handler_whole() -> None:
    async with served(mirror) as stream:
        status, headers, body = await Asker(stream).ask("POST", "/a?b=c", b"hello", (("x-asked", "yes"),))
    assert (status, headers["x-seen"], body) == (200, "yes", b"POST /a?b=c hello")


async def test_plain_requests_and_others_share_a_connection() -> None:
    async with served(mirror) as stream:
        asker = Asker(stream, plain=True)
        asked = [
            ("GET", "/1", b""),
            ("HEAD", "/2", b""),
            ("GET", "/3", b""),
            ("POST", "/4", b"x"),
            ("GET", "/5", b""),
        ]
        bodies = [(await asker.ask(*one, headers=(("x-asked", one[1]),)))[1:] for one in asked]
    seen = [(headers["x-seen"], body) for headers, body in bodies]
    assert seen == [
        ("/1", b"GET /1 "),
        ("/2", b""),
        ("/3", b"GET /3 "),
        ("/4", b"POST /4 x"),
        ("/5", b"GET /5 "),
    ]


async def test_a_plain_request_in_pieces_is_answered() -> None:
    async with served(mirror) as stream:
        for piece in (b"GET /1 HT", b"TP/1.1\r\nhost: a\r\n", b"\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n"):
            await stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        received = b""
        while b"GET /2 " not in received:
            received += bytes(await stream.receive_some())
    assert received.index(b"GET /1 ") < received.index(b"GET /2 ")


async def test_connection_close_is_honoured() -> None:
    async with served(mirror) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        received = b"".join([bytes(piece) async for piece in stream])
    assert received.endswith(b"GET / ")


async def test_a_body_over_the_cap_is_413_and_the_end() -> None:
    async with served(mirror, max_body=10) as stream:
        asker = Asker(stream)
        await asker.send(
            h11.Request(method="POST", target="/", headers=[("host", "a"), ("content-length", "11")])
        )
        await asker.send(h11.Data(data=bytes(11)))
        status, _, _ = await asker.answer()
        assert status == 413
        assert await stream.receive_some() == b""


HEAD = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01 hello",
        b"x" * 20_000,
        HEAD.replace(b"1.1", b"1.0"),
        HEAD.replace(b"host", b"other"),
        HEAD.replace(b"content-length: 2", b"host: b"),
        HEAD.replace(b"\r\nhost", b"\nhost"),
        HEAD.replace(b"host:", b"host :"),
        HEAD.replace(b"length: 2", b"length: +2"),
        HEAD.replace(b"length: 2", b"length: 2\r\ncontent-length: 2"),
        HEAD.replace(b"length: 2", b"length: 2\r\ntransfer-encoding: chunked"),
    ],
)
async def test_what_is_not_well_formed_is_400_and_the_end(data: bytes) -> None:
    async with served(mirror) as stream:
        await stream.send_all(data)
        assert b"".join([bytes(piece) async for piece in stream]).startswith(b"HTTP/1.1 400 ")


async def test_a_streamed_body_without_length_goes_in_chunks() -> None:
    async def body(send: Send) -> None:
        await send(b"one ")
        await send(b"two")

    async def handler(_: HttpRequest) -> HttpResponse:
        await trio.lowlevel.checkpoint()
        return HttpResponse(body=body)

    async with served(handler) as stream:
        asker = Asker(stream)
        for _ in range(2):
            _, headers, received = await asker.ask()
            assert (headers["transfer-encoding"], received) == ("chunked", b"one two")


@pytest.mark.parametrize("announced", ["2", "9"])
async def test_a_body_that_belies_its_length_ends_the_connection(announced: str) -> None:
    async def body(send: Send) -> None:
        await send(b"four")

    async def handler(_: HttpRequest) -> HttpResponse:
        await trio.lowlevel.checkpoint()
        return HttpResponse(200, (("content-length", announced),), body)

    async with served(handler) as stream:
        asker = Asker(stream)
        with pytest.raises(h11.RemoteProtocolError):
            await asker.ask()


async def test_a_handler_can_hang_up_without_an_answer() -> None:
    async def handler(_: HttpRequest) -> HttpResponse:
        await trio.lowlevel.checkpoint()
        raise HangUp

    async with served(handler) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert await stream.receive_some() == b""


def post_of(size: int) -> bytes:
    """Return a request that is so many bytes on the wire."""
    head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %06d\r\n\r\n"
    room = size - len(head % 0)
    return head % room + bytes(room)


def get_of(size: int) -> bytes:
    """Return a plain request that is so many bytes on the wire."""
    head = b"GET / HTTP/1.1\r\nhost: a\r\nx: %s\r\n\r\n"
    return head % (b"x" * (size - len(head % b"")))


@pytest.mark.parametrize(
    "request_bytes", [get_of(100), *map(post_of, [100, 65_535, 65_536, 65_537, 131_072])], ids=len
)
async def test_a_client_that_leaves_cancels_its_handler(request_bytes: bytes) -> None:
    """Also one whose own request was as much as a client may pipeline."""
    pair = PipeConnection.between(Direction(), Direction())
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_http, pair.server, hang)
            await pair.client.send_all(request_bytes)
            await trio.testing.wait_all_tasks_blocked()
            await pair.client.aclose()


@pytest.mark.parametrize("one", [post_of(SIZE), get_of(SIZE)], ids=["POST", "GET"])
async def test_a_client_may_pipeline_only_so_far_however_many_are_answered(one: bytes) -> None:
    seen: list[HttpRequest] = []

    async def answer_few(request: HttpRequest) -> HttpResponse:
        seen.append(request)
        await trio.sleep(0.001)  # meanwhile the client sends all that it may
        return HttpResponse() if len(seen) <= FEW else await hang(request)

    sent = 0
    async with served(answer_few) as stream:
        with trio.move_on_after(1):
            while True:
                await stream.send_all(one)
                sent += SIZE
    assert len(seen) == FEW + 1
    assert sent < FEW * SIZE + 4 * 65_536  # what is on the way, what lies unread, and a piece more of each


async def upper(connection: WebSocket) -> None:
    while True:
        await connection.send_message((await connection.get_message()).upper())


async def leave(_: WebSocket) -> None:
    await trio.lowlevel.checkpoint()


UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def test_leaving_the_websocket_handler_closes_the_websocket() -> None:
    async with served(mirror, websocket=leave) as stream, trio.open_nursery() as nursery:
        client = await wrap_client_stream(nursery, cast("trio.SocketStream", stream), "dependency", "/")
        with pytest.raises(ConnectionClosed):
            await client.get_message()


async def test_a_client_that_goes_after_its_handshake_is_no_fault_of_the_server() -> None:
    pair = PipeConnection.between(Direction(), Direction())
    with trio.fail_after(60):
        await pair.client.send_all(UPGRADE)
        await pair.client.aclose()
        await serve_http(pair.server, mirror, websocket=upper)


async def test_a_ping_that_comes_while_the_server_closes_is_no_fault_of_the_server() -> None:
    """A client's ping crosses the server's closing; the server ends as usual."""
    ping = bytes([0x89, 0x80, 0, 0, 0, 0])
    pair = PipeConnection.between(Direction(), Direction())
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: serve_http(pair.server, mirror, websocket=leave))
            await pair.client.send_all(UPGRADE)
            await trio.testing.wait_all_tasks_blocked()
            await pair.client.send_all(ping)
