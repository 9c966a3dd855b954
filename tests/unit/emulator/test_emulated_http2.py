"""HTTP/2 without h2: what h2 takes is taken, what h2 refuses is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.settings
import hpack
import pytest
from h2 import events
from h2.exceptions import ProtocolError

from kmsconn.emulator.grpc_server import WINDOW
from kmsconn.emulator.http2 import DataReceived, Http2, WindowGrew
from kmsconn.transport.grpc import frames
from kmsconn.transport.grpc.headers import encode
from kmsconn.transport.grpc.streams import HeadersCame, StreamEnded, StreamReset

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
    sizes = {
        h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
        h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: CALLS,
    }
    connection.local_settings = h2.settings.Settings(client=False, initial_values=sizes)
    connection.initiate_connection()
    connection.increment_flow_control_window(WINDOW - connection.inbound_flow_control_window)
    return connection


KINDS: dict[str, Callable[[], Any]] = {
    "h2": open_h2,
    "ours": lambda: Http2(CALLS, WINDOW),
}


def headers(fields: list[tuple[bytes, bytes]], stream: int = 1, flags: int = frames.END_HEADERS) -> bytes:
    return frames.frame(frames.HEADERS, flags, stream, encode(fields))


def data(size: int, stream: int = 1, flags: int = 0) -> bytes:
    return frames.frame(frames.DATA, flags, stream, bytes(size))


def without(name: bytes) -> list[tuple[bytes, bytes]]:
    return [field for field in REQUEST if field[0] != name]


def summary(event: object) -> object:
    """Return what the server looks at."""
    said: object = None
    match event:
        case events.RequestReceived():
            said = event.stream_id, [(bytes(name), bytes(value)) for name, value in event.headers]
        case HeadersCame():
            said = event.stream, list(event.fields)
        case events.DataReceived():
            said = event.stream_id, bytes(event.data), event.flow_controlled_length
        case DataReceived():
            said = event.stream, event.data, event.size
        case events.StreamEnded(stream_id=stream) | StreamEnded(stream=stream):
            said = "ended", stream
        case events.StreamReset(stream_id=stream) | StreamReset(stream=stream):
            said = "reset", stream
        case events.WindowUpdated():
            said = "window", event.stream_id, event.delta
        case WindowGrew():
            said = "window", event.stream, event.size
        case _:
            pass
    return said


def taken(connection: Any, received: bytes) -> list[object]:
    return [told for event in connection.receive_data(received) if (told := summary(event)) is not None]


BLOCK = encode(REQUEST)
TAKEN = {
    "a call": headers(REQUEST) + data(7) + data(0, flags=frames.END_STREAM),
    "a call that ends with its headers": headers(REQUEST, flags=WHOLE),
    "a call that ends with trailers": headers(REQUEST) + data(5) + headers([(b"x", b"y")], flags=WHOLE),
    "two calls": headers(REQUEST) + headers(REQUEST, 3) + data(2, 3, frames.END_STREAM) + data(1, 1, frames.END_STREAM),
    "a reset": headers(REQUEST) + frames.word_frame(frames.RST_STREAM, 1, 8),
    "grants": headers(REQUEST) + frames.word_frame(frames.WINDOW_UPDATE, 1, 5) + frames.word_frame(frames.WINDOW_UPDATE, 0, 6),
    "a block in parts": frames.frame(frames.HEADERS, 0, 1, BLOCK[:9]) + frames.frame(frames.CONTINUATION, 0, 1, BLOCK[9:20])
    + frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, BLOCK[20:]),
    "padding": headers(REQUEST) + frames.frame(frames.DATA, frames.PADDED, 1, b"\x02abc\0\0"),
    "an unknown frame": frames.frame(0x77, 0, 1, b"x") + headers(REQUEST),
    "Huffman's code and a table": b"".join(
        frames.frame(frames.HEADERS, WHOLE, stream, block)
        for encoder in [hpack.Encoder()]
        for stream, block in [(1, encoder.encode(REQUEST)), (3, encoder.encode(REQUEST))]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_what_a_client_sends_means_the_same(name: str) -> None:
    theirs, ours = (taken(make(), HELLO + TAKEN[name]) for make in KINDS.values())
    assert ours == theirs != []


@pytest.mark.parametrize("name", TAKEN)
def test_bytes_that_come_one_by_one_mean_the_same(name: str) -> None:
    connection, received = KINDS["ours"](), HELLO + TAKEN[name]
    pieces = [told for byte in received for told in taken(connection, bytes([byte]))]
    assert pieces == taken(KINDS["ours"](), received)


REFUSED = {
    "another protocol": b"GET / HTTP/1.1\r\n\r\n" + bytes(20),
    "no method": HELLO + headers(without(b":method")),
    "no path": HELLO + headers(without(b":path")),
    "two paths": HELLO + headers([*REQUEST[:4], (b":path", b"/x")]),
    "a late pseudo-header": HELLO + headers([*without(b":path"), (b":path", b"/x")]),
    "a status": HELLO + headers([(b":status", b"200"), *REQUEST]),
    "a capital letter": HELLO + headers([*REQUEST, (b"Name", b"x")]),
    "a header of a connection": HELLO + headers([*REQUEST, (b"connection", b"close")]),
    "another te": HELLO + headers([*without(b"te"), (b"te", b"gzip")]),
    "a line in a value": HELLO + headers([*REQUEST, (b"x", b"a\nb")]),
    "a server's stream": HELLO + headers(REQUEST, 2),
    "an earlier stream": HELLO + headers(REQUEST, 3) + headers(REQUEST, 1),
    "headers in the middle": HELLO + headers(REQUEST) + headers([(b"x", b"y")]),
    "data of no stream": HELLO + data(1, 0),
    "data of a stream that never was": HELLO + data(1, 5),
    "headers of the connection": HELLO + headers(REQUEST, 0),
    "too many calls": HELLO + b"".join(headers(REQUEST, 1 + 2 * number) for number in range(CALLS + 1)),
    "more than was granted": HELLO + headers(REQUEST) + data(16_384) * (WINDOW // 16_384 + 1),
    "more than the connection was granted": HELLO + headers(REQUEST) + headers(REQUEST, 3)
    + (data(16_384) + data(16_384, 3)) * (WINDOW // 32_768) + data(1),
    "a block that goes on elsewhere": HELLO + frames.frame(frames.HEADERS, 0, 1, BLOCK[:9])
    + frames.frame(frames.CONTINUATION, frames.END_HEADERS, 3, BLOCK[9:]),
    "a frame too large": HELLO + headers(REQUEST) + data(16_385),
    "something within a block": HELLO + frames.frame(frames.HEADERS, 0, 1, BLOCK[:9]) + data(1),
    "a block that goes on without its begin": HELLO + frames.frame(frames.CONTINUATION, 0, 1, BLOCK),
    "an empty grant": HELLO + frames.word_frame(frames.WINDOW_UPDATE, 0, 0),
    "a grant beyond the largest": HELLO + frames.word_frame(frames.WINDOW_UPDATE, 0, 2**31 - 1),
    "a ping of a wrong size": HELLO + frames.frame(frames.PING, 0, 0, b"x"),
    "a reset of a wrong size": HELLO + headers(REQUEST) + frames.frame(frames.RST_STREAM, 0, 1, b"x"),
    "settings of a wrong size": frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0, b"x"),
    "a window beyond the largest": frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0, b"\0\x04" + b"\xff" * 4),
    "frames of a size that is not allowed": frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0, b"\0\x05" + bytes(4)),
    "a promise": HELLO + headers(REQUEST) + frames.frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, bytes(4) + BLOCK),
    "padding beyond the frame": HELLO + headers(REQUEST) + frames.frame(frames.DATA, frames.PADDED, 1, b"\x09abc"),
    "a block that is none": HELLO + frames.frame(frames.HEADERS, WHOLE, 1, b"\xff\xff\xff\xff\xff"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REFUSED)
def test_what_a_client_must_not_do_is_refused(name: str, kind: str) -> None:
    with pytest.raises((ProtocolError, frames.Http2Error)):
        KINDS[kind]().receive_data(REFUSED[name])


def client_of(server: Http2) -> h2.connection.H2Connection:
    """Return an h2 client that has greeted the server and begun a call."""
    client = h2.connection.H2Connection()
    client.initiate_connection()
    client.send_headers(1, [(name.decode(), value.decode()) for name, value in REQUEST])
    server.receive_data(client.data_to_send())
    client.receive_data(server.data_to_send())
    return client


def test_large_headers_go_out_in_parts() -> None:
    server = Http2(CALLS, WINDOW)
    client = client_of(server)
    server.send_headers(1, [(":status", "200"), ("x", "y" * 40_000)])
    (answer,) = client.receive_data(server.data_to_send())
    assert isinstance(answer, events.ResponseReceived)
    assert dict(answer.headers)[b"x"] == b"y" * 40_000


def test_what_was_used_up_is_granted_anew() -> None:
    server = Http2(CALLS, WINDOW)
    client = client_of(server)
    for _ in range(3 * WINDOW // 16_384):
        client.send_data(1, bytes(16_384))
        for event in server.receive_data(client.data_to_send()):
            assert isinstance(event, DataReceived)
            server.acknowledge(1)
        client.receive_data(server.data_to_send())


def test_what_is_sent_counts_against_both_windows() -> None:
    server = Http2(CALLS, WINDOW)
    server.receive_data(
        HELLO + headers(REQUEST) + headers(REQUEST, 3) + frames.word_frame(frames.WINDOW_UPDATE, 0, 100)
    )
    server.send_data(1, bytes(10_000))
    assert (server.streams[1].room.left, server.whole.room.left) == (55_535, 55_635)


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_stream_that_both_sides_ended_is_forgotten(first: str) -> None:
    server = Http2(CALLS, WINDOW)
    server.receive_data(HELLO)
    for stream in range(1, 20 * CALLS, 2):
        server.receive_data(headers(REQUEST, stream, WHOLE if first == "client" else frames.END_HEADERS))
        server.send_headers(stream, [(":status", "200")], end_stream=True)
        if first == "server":
            server.receive_data(data(0, stream, frames.END_STREAM))
    assert server.streams == {}
