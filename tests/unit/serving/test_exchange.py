"""One connection of a port in virtual time: clients that say nothing, take nothing, leave, or send more than they were asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair

from kmsconn.emulator.pipes import Direction, PipeConnection
from kmsconn.observe.server import BOUNDS, port_of
from kmsconn.serving.exchange import LINGER_SECONDS, Exchange
from kmsconn.serving.wire import LiveAnswer, ServedAnswer, ServedRequest

REQUEST = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"


def page(request: ServedRequest) -> ServedAnswer:
    return ServedAnswer(200, "text/plain", request.path.encode())


async def exchange(stream: Any, answers: Callable[[ServedRequest], Any] = page) -> None:
    """Serve one connection of the monitoring port."""
    port = port_of(answers)
    connection = port.connections.admit("a")
    assert connection is not None
    await Exchange(stream, connection, port).run()


async def read(stream: trio.abc.ReceiveStream) -> bytes:
    pieces = [piece async for piece in stream]
    return b"".join(map(bytes, pieces))


async def test_a_request_gets_its_answer_and_the_end() -> None:
    client, server = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange, server)
        await client.send_all(REQUEST * 3)
        said = await read(client)
        await client.aclose()
    assert (said.count(b"HTTP/1.1 200"), said[-8:]) == (1, b"/metrics")
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    ("sent", "said", "seconds"), [(b"", b"", 0.0), (REQUEST[:-2], b"HTTP/1.1 408 ", LINGER_SECONDS)]
)
async def test_a_client_that_does_not_ask_is_let_go_and_told_so_if_it_began(
    sent: bytes, said: bytes, seconds: float
) -> None:
    client, server = memory_stream_pair()
    await client.send_all(sent)
    await exchange(server)
    assert trio.current_time() == BOUNDS.request + seconds
    await server.aclose()
    assert (await read(client)).startswith(said)


async def test_a_byte_now_and_then_wins_no_more_time() -> None:
    client, server = memory_stream_pair()

    async def drip() -> None:
        for byte in REQUEST:
            await client.send_all(bytes([byte]))
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        await exchange(server)
        assert trio.current_time() <= BOUNDS.request + LINGER_SECONDS
        nursery.cancel_scope.cancel()


async def test_a_client_that_takes_nothing_is_let_go() -> None:
    """Reproduced: clients that asked and never read held 1,024 descriptors for ever."""
    connection = PipeConnection.between(Direction(), Direction(), 1024)
    await connection.client.send_all(REQUEST)
    await exchange(connection.server, lambda _: ServedAnswer(200, "text/plain", b"m" * 100_000))
    assert trio.current_time() == BOUNDS.answer


async def test_a_client_that_never_closes_is_let_go() -> None:
    client, server = memory_stream_pair()
    await client.send_all(REQUEST)
    await exchange(server)
    assert trio.current_time() == LINGER_SECONDS


async def test_a_fault_of_this_program_costs_an_answer_and_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, server = memory_stream_pair()
    await client.send_all(REQUEST)
    await exchange(server, lambda request: 1 / 0)
    assert (await client.receive_some()).startswith(b"HTTP/1.1 500 ")
    assert "ZeroDivisionError" in caplog.text


async def test_what_is_waited_for_is_answered() -> None:
    async def later(_request: ServedRequest) -> ServedAnswer:
        await trio.sleep(1)
        return ServedAnswer(200)

    client, server = memory_stream_pair()
    await client.send_all(REQUEST)
    await exchange(server, later)
    assert (await client.receive_some()).startswith(b"HTTP/1.1 200 ")


class Viewer:
    """An answer without an end that gives a piece a second, and how many of its clients are gone."""

    def __init__(self, size: int = 1) -> None:
        self.size, self.closed = size, 0

    async def next_piece(self) -> bytes:
        await trio.sleep(1)
        return b"p" * self.size

    def close(self) -> None:
        self.closed += 1

    def page(self, _request: ServedRequest) -> LiveAnswer:
        return LiveAnswer("text/event-stream", self.next_piece, self.close)


async def test_an_answer_without_an_end_comes_piece_by_piece() -> None:
    viewer, (client, server) = Viewer(), memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await client.send_all(REQUEST)
        nursery.start_soon(exchange, server, viewer.page)
        assert b"content-type: text/event-stream" in (await client.receive_some()).lower()
        pieces = [(bytes(await client.receive_some()), trio.current_time()) for _ in range(3)]
        nursery.cancel_scope.cancel()
    assert pieces == [(b"1\r\np\r\n", second) for second in (1.0, 2.0, 3.0)]
    assert viewer.closed == 1


async def test_a_client_that_takes_no_piece_is_let_go() -> None:
    viewer, connection = Viewer(100_000), PipeConnection.between(Direction(), Direction(), 1024)
    await connection.client.send_all(REQUEST)
    await exchange(connection.server, viewer.page)
    assert (trio.current_time(), viewer.closed) == (1 + BOUNDS.answer, 1)


async def test_a_client_that_leaves_is_noticed_at_the_next_piece() -> None:
    viewer, (client, server) = Viewer(), memory_stream_pair()
    await client.send_all(REQUEST)

    async def leave() -> None:
        await trio.sleep(1.5)
        await client.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await exchange(server, viewer.page)
    assert (trio.current_time(), viewer.closed) == (2, 1)


async def test_head_of_an_answer_without_an_end_is_its_head() -> None:
    viewer, (client, server) = Viewer(), memory_stream_pair()
    await client.send_all(REQUEST.replace(b"GET", b"HEAD"))
    await exchange(server, viewer.page)
    assert (trio.current_time(), viewer.closed) == (0, 1)
