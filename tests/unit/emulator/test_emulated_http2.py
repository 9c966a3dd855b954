"""The server's end of HTTP/2, by what h2 takes and refuses, and the gRPC server over it, called by a plain h2 client."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import h2.config
import h2.connection
import h2.settings
import hpack
import pytest
import trio
import trio.testing
from h2 import events
from h2.exceptions import ProtocolError

from kmsconn.emulator.grpc_server import HEALTH_CHECK, CutConnection, health_method, seconds_of
from kmsconn.emulator.http2 import DataCame, HeadersCame, Http2, StreamEnded, StreamReset
from kmsconn.transport.grpc import frames
from kmsconn.transport.grpc.framing import Status
from kmsconn.transport.grpc.headers import encode
from tests.unit.emulator.h2_caller import calling, framed

CALLS = 3
REQUEST = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/s/m"),
    (b":authority", b"a"),
    (b"te", b"trailers"),
]
HELLO = frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0)
WHOLE = frames.END_HEADERS | frames.END_STREAM


def open_h2() -> h2.connection.H2Connection:
    """Return h2's end of the server's: it says what a client may do."""
    config = h2.config.H2Configuration(client_side=False, header_encoding=None)
    connection = h2.connection.H2Connection(config)
    sizes = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: CALLS}
    connection.local_settings = h2.settings.Settings(client=False, initial_values=sizes)
    connection.initiate_connection()
    return connection


def headers(fields: list[tuple[bytes, bytes]], stream: int = 1, flags: int = frames.END_HEADERS) -> bytes:
    return frames.frame(frames.HEADERS, flags, stream, encode(tuple(fields)))


def data(size: int, stream: int = 1, flags: int = 0) -> bytes:
    return frames.frame(frames.DATA, flags, stream, bytes(size))


def without(name: bytes) -> list[tuple[bytes, bytes]]:
    return [field for field in REQUEST if field[0] != name]


def summary(event: object) -> object:
    """Return what the server looks at; of h2's trailers nothing, they are passed over."""
    match event:
        case events.RequestReceived():
            return event.stream_id, [(bytes(name), bytes(value)) for name, value in event.headers]
        case HeadersCame():
            return event.stream, list(event.fields)
        case events.DataReceived(stream_id=stream) | DataCame(stream=stream) if event.data:
            return stream, bytes(event.data)
        case events.StreamEnded(stream_id=stream) | StreamEnded(stream=stream):
            return "ended", stream
        case events.StreamReset(stream_id=stream) | StreamReset(stream=stream):
            return "reset", stream
        case _:
            return None


TAKEN = {
    "a call": headers(REQUEST) + data(7) + data(0, flags=frames.END_STREAM),
    "a call that ends with its headers": headers(REQUEST, flags=WHOLE),
    "a call that ends with trailers": headers(REQUEST) + data(5) + headers([(b"x", b"y")], flags=WHOLE),
    "two calls": headers(REQUEST) + headers(REQUEST, 3) + data(2, 3, frames.END_STREAM) + data(1, 1, frames.END_STREAM),
    "a reset": headers(REQUEST) + frames.word_frame(frames.RST_STREAM, 1, 8),
    "a block in parts": frames.frame(frames.HEADERS, 0, 1, encode(tuple(REQUEST))[:9])
    + frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, encode(tuple(REQUEST))[9:]),
    "Huffman's code and a table": b"".join(
        frames.frame(frames.HEADERS, WHOLE, stream, block)
        for encoder in [hpack.Encoder()]
        for stream, block in [(1, encoder.encode(REQUEST)), (3, encoder.encode(REQUEST))]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_what_a_client_sends_means_the_same(name: str) -> None:
    received = HELLO + TAKEN[name]
    theirs = [told for event in open_h2().receive_data(received) if (told := summary(event))]
    server = Http2(CALLS)
    ours = [
        told for byte in received for event in server.events_in(bytes([byte])) if (told := summary(event))
    ]
    assert ours == theirs != []


REFUSED = {
    "another protocol": b"GET / HTTP/1.1\r\n\r\n" + bytes(20),
    "no method": HELLO + headers(without(b":method")),
    "two paths": HELLO + headers([*REQUEST[:4], (b":path", b"/x")]),
    "a late pseudo-header": HELLO + headers([*without(b":path"), (b":path", b"/x")]),
    "a status": HELLO + headers([(b":status", b"200"), *REQUEST]),
    "a header of a connection": HELLO + headers([*REQUEST, (b"connection", b"close")]),
    "another te": HELLO + headers([*without(b"te"), (b"te", b"gzip")]),
    "a server's stream": HELLO + headers(REQUEST, 2),
    "headers in the middle": HELLO + headers(REQUEST) + headers([(b"x", b"y")]),
    "data of a stream that never was": HELLO + data(1, 5),
    "headers of the connection": HELLO + headers(REQUEST, 0),
    "too many calls": HELLO + b"".join(headers(REQUEST, 1 + 2 * number) for number in range(CALLS + 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_client_must_not_do_is_refused(name: str) -> None:
    with pytest.raises(ProtocolError):
        open_h2().receive_data(REFUSED[name])
    with pytest.raises(frames.Http2Error):
        Http2(CALLS).events_in(REFUSED[name])


def client_of(server: Http2) -> h2.connection.H2Connection:
    """Return an h2 client that has greeted the server and begun a call."""
    client = h2.connection.H2Connection()
    client.initiate_connection()
    client.send_headers(1, [(name.decode(), value.decode()) for name, value in REQUEST])
    server.events_in(client.data_to_send())
    client.receive_data(server.data_to_send())
    return client


def test_large_headers_go_out_in_parts() -> None:
    server = Http2(CALLS)
    client = client_of(server)
    server.send_headers(1, [(":status", "200"), ("x", "y" * 40_000)])
    (answer,) = client.receive_data(server.data_to_send())
    assert isinstance(answer, events.ResponseReceived)
    assert dict(answer.headers)[b"x"] == b"y" * 40_000


def test_what_is_sent_counts_against_both_windows() -> None:
    server = Http2(CALLS)
    grant = frames.word_frame(frames.WINDOW_UPDATE, 0, 100)
    server.events_in(HELLO + headers(REQUEST) + headers(REQUEST, 3) + grant)
    for _ in range(6):
        server.send_data(1, bytes(10_000))
    assert (server.room(1), server.room(3)) == (5_535, 5_635)


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_stream_that_both_sides_ended_is_forgotten(first: str) -> None:
    server = Http2(CALLS)
    server.events_in(HELLO)
    for stream in range(1, 20 * CALLS, 2):
        server.events_in(headers(REQUEST, stream, WHOLE if first == "client" else frames.END_HEADERS))
        server.send_headers(stream, [(":status", "200")], end_stream=True)
        if first == "server":
            server.events_in(data(0, stream, frames.END_STREAM))


ECHO, HANG, CUT = (f"/s/{name}" for name in ("E", "H", "C"))


async def echo(request: bytes) -> bytes:
    await trio.lowlevel.checkpoint()
    return request


async def hang(request: bytes) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


async def cut(request: bytes) -> bytes:
    await trio.lowlevel.checkpoint()
    raise CutConnection


METHODS: dict[str, Callable[[bytes], Awaitable[bytes]]] = {ECHO: echo, HANG: hang, CUT: cut}


async def test_a_small_window_of_the_client_is_kept_to() -> None:
    """The reply waits for every grant."""
    async with calling(METHODS, window=1000, hold=True) as caller:
        stream_id = await caller.begin(ECHO)
        await caller.send(stream_id, framed(bytes(5000)))
        await trio.testing.wait_all_tasks_blocked()
        assert len(caller.outcomes[stream_id].body) == 1000
        caller.hold = False
        caller.h2.acknowledge_received_data(1000, stream_id)
        await caller.flush()
        assert len((await caller.wait(stream_id)).reply) == 5000


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", Status.INTERNAL),
        (b"\0\0\0", Status.INTERNAL),
        (framed(b"one") + framed(b"two"), Status.INTERNAL),
        (framed(b"short")[:-1], Status.INTERNAL),
        (b"\x01" + framed(b"compressed")[1:], Status.UNIMPLEMENTED),
    ],
)
async def test_what_is_not_one_plain_message_is_refused(body: bytes, status: Status) -> None:
    async with calling(METHODS) as caller:
        stream_id = await caller.begin(ECHO)
        await caller.send(stream_id, body)
        assert (await caller.wait(stream_id)).status == status.value


async def test_a_reset_that_comes_with_the_question_leaves_the_connection_usable() -> None:
    async def at_once(request: bytes) -> bytes:
        return request

    head = [(":method", "POST"), (":scheme", "http"), (":path", ECHO), (":authority", "core")]
    async with calling({ECHO: at_once}) as caller:
        caller.h2.send_headers(1, head)
        caller.h2.send_data(1, framed(b"x"), end_stream=True)
        await caller.reset(1)
        assert (await caller.call(ECHO, b"y")).reply == b"y"


async def test_the_deadline_of_a_call_ends_it() -> None:
    async with calling(METHODS) as caller:
        start = trio.current_time()
        outcome = await caller.call(HANG, headers=(("grpc-timeout", "1500m"),))
        assert (outcome.status, trio.current_time() - start) == (Status.DEADLINE_EXCEEDED.value, 1.5)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("2H", 7200), ("3M", 180), ("4S", 4), ("5m", 0.005), ("6u", 6e-6), ("7n", 7e-9)),
        *(("", math.inf), ("1", math.inf), ("-1S", math.inf), ("123456789S", math.inf)),
    ],
)
def test_a_timeout_header_is_read_in_its_unit(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


async def test_a_cut_ends_every_call_of_the_connection() -> None:
    async with calling(METHODS) as caller:
        other = await caller.begin(HANG)
        await caller.send(other, framed(b""))
        outcome = await caller.call(CUT)
        assert caller.closed.is_set()
        assert outcome.headers == {}
        assert (await caller.wait(other)).headers == {}


@pytest.mark.parametrize("request_bytes", [b"\x0a", b"\x0a\x09core", b"\x0a\x01\xff"])
async def test_health_asked_in_bytes_that_are_no_message_is_internal(request_bytes: bytes) -> None:
    async with calling({HEALTH_CHECK: health_method({"core": lambda: True})}) as caller:
        assert (await caller.call(HEALTH_CHECK, request_bytes)).status == Status.INTERNAL.value
