"""The monitoring port's connections in virtual time: clients that say nothing, take nothing, or are too many."""

from __future__ import annotations

import pytest
import trio
from trio.testing import memory_stream_pair

from kmsconn.emulator.pipes import Direction, PipeConnection
from kmsconn.monitoring.exchange import AwaitedAnswer, LiveAnswer, ProbeAnswer, ProbeRequest
from kmsconn.monitoring.serving import (
    ANSWER_SECONDS,
    CONNECTIONS,
    LINGER_SECONDS,
    REQUEST_SECONDS,
    HeldConnections,
    exchange,
)

REQUEST = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"


def page(request: ProbeRequest) -> ProbeAnswer:
    return ProbeAnswer(200, "text/plain", request.path.encode())


async def read(stream: trio.abc.ReceiveStream) -> bytes:
    pieces = [piece async for piece in stream]
    return b"".join(map(bytes, pieces))


async def test_a_request_gets_its_answer_and_the_end(autojump_clock: trio.testing.MockClock) -> None:
    client, server = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange, server, page)
        await client.send_all(REQUEST * 3)
        said = await read(client)
        await client.aclose()
    assert (said.count(b"HTTP/1.1 200"), said[-8:]) == (1, b"/metrics")


@pytest.mark.parametrize("sent", [b"", REQUEST[:-2]])
async def test_a_client_that_does_not_ask_is_told_so_and_let_go(
    autojump_clock: trio.testing.MockClock, sent: bytes
) -> None:
    client, server = memory_stream_pair()
    await client.send_all(sent)
    await exchange(server, page)
    assert trio.current_time() == REQUEST_SECONDS + LINGER_SECONDS
    assert (await client.receive_some()).startswith(b"HTTP/1.1 408 ")


async def test_a_byte_now_and_then_wins_no_more_time(autojump_clock: trio.testing.MockClock) -> None:
    client, server = memory_stream_pair()

    async def drip() -> None:
        for byte in REQUEST:
            await client.send_all(bytes([byte]))
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        await exchange(server, page)
        assert trio.current_time() <= REQUEST_SECONDS + LINGER_SECONDS
        nursery.cancel_scope.cancel()


async def test_a_client_that_takes_nothing_is_let_go(autojump_clock: trio.testing.MockClock) -> None:
    """Reproduced: clients that asked and never read held 1,024 descriptors for ever."""
    connection = PipeConnection.between(Direction(), Direction(), 1024)
    await connection.client.send_all(REQUEST)
    await exchange(connection.server, lambda _: ProbeAnswer(200, "text/plain", b"m" * 100_000))  # type: ignore[arg-type]
    assert trio.current_time() == ANSWER_SECONDS


async def test_a_client_that_never_closes_is_let_go(autojump_clock: trio.testing.MockClock) -> None:
    client, server = memory_stream_pair()
    await client.send_all(REQUEST)
    await exchange(server, page)
    assert trio.current_time() == LINGER_SECONDS


def dropped(scopes: list[trio.CancelScope]) -> list[int]:
    return [number for number, scope in enumerate(scopes) if scope.cancel_called]


async def test_when_all_are_taken_the_oldest_makes_room() -> None:
    held = HeldConnections()
    scopes = [held.record("10.0.0.1") for _ in range(CONNECTIONS + 2)]
    assert (dropped(scopes), len(held)) == ([0, 1], CONNECTIONS)


async def test_the_address_that_holds_the_most_makes_room() -> None:
    """A stranger with 63 slow connections costs no probe its own."""
    held = HeldConnections()
    probe = held.record("10.0.0.2")
    scopes = [held.record("10.0.0.1") for _ in range(2 * CONNECTIONS)]
    assert not probe.cancel_called
    assert dropped(scopes) == list(range(CONNECTIONS + 1))


async def test_what_has_ended_makes_room_by_itself() -> None:
    held = HeldConnections()
    scopes = [held.record("10.0.0.1") for _ in range(CONNECTIONS)]
    held.release(scopes[5])
    held.record("10.0.0.1")
    assert dropped(scopes) == []


async def test_an_answer_is_waited_for_and_not_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    for seconds, status in ((1, b"HTTP/1.1 200 "), (ANSWER_SECONDS + 1, b"HTTP/1.1 503 ")):
        client, server = memory_stream_pair()

        async def wait(seconds: float = seconds) -> ProbeAnswer:
            await trio.sleep(seconds)
            return ProbeAnswer(200, "text/plain", b"late")

        await client.send_all(REQUEST)
        await exchange(server, lambda _, wait=wait: AwaitedAnswer(wait))  # type: ignore[misc]
        assert (await client.receive_some()).startswith(status)


class Viewer:
    """An answer without an end that gives a piece a second, and how many of its clients are gone."""

    def __init__(self, size: int = 1) -> None:
        self.size, self.closed = size, 0

    async def next_piece(self) -> bytes:
        await trio.sleep(1)
        return b"p" * self.size

    def close(self) -> None:
        self.closed += 1

    def page(self, _request: ProbeRequest) -> LiveAnswer:
        return LiveAnswer("text/event-stream", self.next_piece, self.close)


async def test_an_answer_without_an_end_comes_piece_by_piece(autojump_clock: trio.testing.MockClock) -> None:
    viewer, (client, server) = Viewer(), memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await client.send_all(REQUEST)
        nursery.start_soon(exchange, server, viewer.page)
        assert b"content-type: text/event-stream" in (await client.receive_some()).lower()
        pieces = [(bytes(await client.receive_some()), trio.current_time()) for _ in range(3)]
        nursery.cancel_scope.cancel()
    assert pieces == [(b"1\r\np\r\n", second) for second in (1.0, 2.0, 3.0)]
    assert viewer.closed == 1


async def test_a_client_that_takes_no_piece_is_let_go(autojump_clock: trio.testing.MockClock) -> None:
    viewer, connection = Viewer(100_000), PipeConnection.between(Direction(), Direction(), 1024)
    await connection.client.send_all(REQUEST)
    await exchange(connection.server, viewer.page)  # type: ignore[arg-type]
    assert (trio.current_time(), viewer.closed) == (1 + ANSWER_SECONDS, 1)


async def test_a_client_that_leaves_is_noticed_at_the_next_piece(
    autojump_clock: trio.testing.MockClock,
) -> None:
    viewer, (client, server) = Viewer(), memory_stream_pair()
    await client.send_all(REQUEST)

    async def leave() -> None:
        await trio.sleep(1.5)
        await client.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        with pytest.raises(trio.BrokenResourceError):
            await exchange(server, viewer.page)
    assert (trio.current_time(), viewer.closed) == (2, 1)


async def test_head_of_an_answer_without_an_end_is_its_head(autojump_clock: trio.testing.MockClock) -> None:
    viewer, (client, server) = Viewer(), memory_stream_pair()
    await client.send_all(REQUEST.replace(b"GET", b"HEAD"))
    await exchange(server, viewer.page)
    assert (trio.current_time(), viewer.closed) == (0, 1)
