"""Which connection a request takes, when it is asked twice, and what becomes of the connection afterwards."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

import pytest
import trio

from kmsconn.errors import Unreachable
from kmsconn.testing.endings import cancel_everywhere
from kmsconn.transport.dialling import reasons_of
from kmsconn.transport.http import IDLE_SECONDS, Asked, HttpClient, open_http
from kmsconn.transport.ports import Ports, offload_inline

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
OK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
Ask = Callable[[HttpClient], Awaitable[object]]


async def get(client: HttpClient) -> bytes:
    async with await client.stream_get("http://b/k", max_bytes=100) as download:
        return await download.read()


async def head(client: HttpClient) -> int:
    return (await client.head("http://b/k")).status


async def post(client: HttpClient) -> bytes:
    return (await client.post("http://b/k", b"x")).body


async def ahead(client: HttpClient) -> None:
    """Ask over a connection that is kept, and leave it to nobody; then take what was sent ahead."""
    await get(client)
    for takes in (False, True):
        async with aclosing(await client.ask_ahead("http://b/k") or AsyncExitStack()) as asked:
            if takes and isinstance(asked, Asked):
                await (await client.stream_get(asked.request.text, asked=asked)).aclose()


class Scripted:
    """A Dial: each connection answers its requests with the bytes of its script, one after the other, and then closes."""

    def __init__(self, nursery: trio.Nursery, *scripts: list[bytes], lasting: bool = False) -> None:
        self.asked: list[bytes] = []
        self.dialled = self.open = 0
        self._nursery, self._scripts, self._lasting = nursery, list(scripts), lasting

    async def __call__(self, host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        script = self._scripts[min(self.dialled, len(self._scripts) - 1)]
        self.dialled += 1
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, theirs, list(script))
        return ours

    async def _serve(self, stream: trio.abc.Stream, script: list[bytes]) -> None:
        self.open += 1
        with suppress(trio.BrokenResourceError):
            while script and (request := await stream.receive_some()):
                self.asked.append(bytes(request))
                await stream.send_all(script.pop(0))
            if self._lasting:
                await stream.receive_some()
        self.open -= 1
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def client_of(
    *scripts: list[bytes], lasting: bool = False
) -> AsyncIterator[tuple[HttpClient, Scripted]]:
    async with trio.open_nursery() as nursery:
        dial = Scripted(nursery, *scripts, lasting=lasting)
        ports = Ports(dial=dial, offload=offload_inline, wall=lambda: 0.0, random=lambda: 0.5)
        async with open_http(ports) as client:
            yield client, dial
            assert not client._places, "each is given back, however a request ended"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("ask", "answer"), [(get, OK), (head, OK_HEAD)])
async def test_what_reads_is_asked_once_more_when_a_kept_connection_is_dead(ask: Ask, answer: bytes) -> None:
    async with client_of([answer], [answer]) as (client, dial):
        first = await ask(client)
        assert await ask(client) == first
    assert dial.dialled == 2


async def test_a_post_is_not_asked_twice() -> None:
    """The server may have acted on it."""
    async with client_of([OK], [OK]) as (client, dial):
        await post(client)
        with pytest.raises(Unreachable, match="http://b: "):
            await post(client)
    assert dial.dialled == 1


@pytest.mark.parametrize("ask", [get, head])
async def test_a_fresh_connection_that_dies_is_not_replaced(ask: Ask) -> None:
    async with client_of([b""]) as (client, dial):
        with pytest.raises(Unreachable, match="without an answer"):
            await ask(client)
    assert dial.dialled == 1


async def test_nobody_is_asked_a_third_time() -> None:
    async with client_of([OK], [b""], [OK]) as (client, dial):
        await get(client)
        with pytest.raises(Unreachable):
            await get(client)
    assert dial.dialled == 2


async def test_an_answer_that_has_begun_is_not_asked_for_again() -> None:
    async with client_of([OK, b"H"], [OK]) as (client, dial):
        await get(client)
        with pytest.raises(Unreachable):
            await get(client)
    assert dial.dialled == 1


class Breaking(trio.abc.Stream):
    """Gives what it has, piece by piece, and then breaks."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._pieces:
            raise trio.BrokenResourceError
        return self._pieces.pop(0)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(("rest", "dialled"), [((), 2), ((b"H",), 1)])
async def test_a_kept_connection_that_breaks_is_replaced_only_before_the_first_byte(
    rest: tuple[bytes, ...], dialled: int
) -> None:
    streams = [Breaking(OK), Breaking(OK, *rest)]

    async def dial(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return streams.pop()

    async with open_http(Ports(dial, offload_inline, lambda: 0.0, lambda: 0.5)) as client:
        await get(client)
        with suppress(Unreachable):
            await get(client)
    assert 2 - len(streams) == dialled


async def test_a_connection_that_is_used_does_not_get_old() -> None:
    async with client_of([OK] * 9) as (client, dial):
        for _ in range(5):
            await get(client)
            await trio.sleep(IDLE_SECONDS * 0.9)
    assert dial.dialled == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody",
        b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody",
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ],
)
async def test_a_connection_that_ends_or_has_more_to_say_is_closed(answer: bytes) -> None:
    async with client_of([answer], lasting=True) as (client, dial):
        assert await post(client) == b"body"
        await trio.testing.wait_all_tasks_blocked()
        assert dial.open == 0
        assert await post(client) == b"body"
    assert dial.dialled == 2


async def test_a_redirect_whose_body_came_with_it_keeps_the_connection() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: other?x=1#y\r\nContent-Length: 4\r\n\r\nhere"
    async with client_of([moved, OK]) as (client, dial):
        assert await get(client) == b"body"
    assert dial.dialled == 1
    assert dial.asked[1].startswith(b"GET /other?x=1 HTTP/1.1\r\n")


async def test_old_connections_are_closed_when_their_origin_is_asked() -> None:
    async with client_of([OK] * 9, lasting=True) as (client, dial):
        async with await client.stream_get("http://b/", max_bytes=9) as first:
            await get(client)
            await first.read()
        assert dial.open == 2
        await trio.sleep(IDLE_SECONDS + 1)
        await get(client)
        await trio.testing.wait_all_tasks_blocked()
        assert dial.open == 1


async def test_leaving_closes_what_is_idle() -> None:
    async with trio.open_nursery() as nursery:
        dial = Scripted(nursery, [OK], lasting=True)
        async with open_http(Ports(dial, offload_inline, lambda: 0.0, lambda: 0.5)) as client:
            await get(client)
        await trio.testing.wait_all_tasks_blocked()
        assert dial.open == 0


@pytest.mark.parametrize(("ask", "answer"), [(get, OK), (head, OK_HEAD), (post, OK), (ahead, OK)])
async def test_cancelled_anywhere_nothing_stays_open_and_it_can_be_repeated(ask: Ask, answer: bytes) -> None:
    async with client_of([answer] * 100, lasting=True) as (client, dial):

        async def look() -> None:
            await trio.testing.wait_all_tasks_blocked()
            assert dial.open <= 1
            await ask(client)

        assert await cancel_everywhere(lambda: ask(client), look) > 2


class Deaf(trio.abc.Stream):
    """Takes no request, but has an answer; or breaks in its own way."""

    def __init__(self, answer: bytes | Exception) -> None:
        self._answer, self.closed = answer, False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def client_on(stream: trio.abc.Stream) -> AsyncIterator[HttpClient]:
    async def dial(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return stream

    async with open_http(Ports(dial, offload_inline, lambda: 0.0, lambda: 0.5)) as client:
        yield client


async def test_a_server_that_refuses_to_read_on_is_heard_and_not_asked_again() -> None:
    stream = Deaf(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    async with client_on(stream) as client:
        assert (await client.post("http://b/", b"x")).status == 413
        assert stream.closed


@pytest.mark.parametrize("error", [trio.BrokenResourceError(), trio.ClosedResourceError(), OSError("reset")])
@pytest.mark.parametrize("ask", [get, head, post])
async def test_every_way_to_break_is_unreachable(ask: Ask, error: Exception) -> None:
    stream = Deaf(error)
    async with client_on(stream) as client:
        with pytest.raises(Unreachable, match="http://b"):
            await ask(client)
        assert stream.closed


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://b", b"/"),
        ("http://b?q=1", b"/?q=1"),
        ("http://b/\u00fc?\u00e9=1", b"/%C3%BC?%C3%A9=1"),
        ("http://b/a%20b%2Fc", b"/a%20b%2Fc"),
        ("http://b/<x>#part", b"/%3Cx%3E"),
    ],
)
async def test_the_target_is_the_path_and_query_in_ascii(url: str, target: bytes) -> None:
    async with client_of([OK_HEAD]) as (client, dial):
        await client.head(url)
    assert dial.asked[0].startswith(b"HEAD " + target + b" HTTP/1.1\r\nHost: b\r\n")


async def test_a_header_with_a_line_break_is_refused_before_anything_is_sent() -> None:
    async with client_of([OK]) as (client, dial):
        with pytest.raises(Unreachable):
            await client.head("http://b/", {"X": "a\r\nY: b"})
    assert dial.dialled == 0


def test_what_every_attempt_met_is_said_once() -> None:
    """Trio counts the attempts only."""
    refused = [OSError(errno.ECONNREFUSED, "Error connecting to somewhere") for _ in range(2)]
    error = OSError("all attempts to connect to x:9 failed")
    error.__cause__ = ExceptionGroup("x", [*refused, OSError(errno.ENETUNREACH, "no way")])
    assert reasons_of(error) == "Connection refused, Network is unreachable"
    assert not reasons_of(OSError("no such name"))
