"""Laws of the sans-IO layers of gRPC: no bytes crash them, and where a stream of bytes is split changes nothing."""

from __future__ import annotations

from itertools import pairwise

import h2.config
import h2.connection
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.errors import Broken, KmsconnError
from kmsconn.transport.grpc.framing import GrpcReply, percent_decoded, request_headers
from tests.http2_events import Watched

HEADERS = request_headers("/p.S/M", "host:1", "http")
OK = [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-status", b"0")]


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """Split data at these places, modulo its length."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def outcome(pieces: list[bytes]) -> bytes | str:
    reply = GrpcReply(limit=1000)
    reply.take_headers(OK)
    for piece in pieces:
        reply.take_data(piece)
    reply.take_end()
    try:
        return reply.message()
    except Broken as error:
        return str(error)


cuts = st.lists(st.integers(0, 10_000), max_size=8)


@given(st.binary(max_size=200), cuts)
def test_a_message_comes_out_whole_however_it_is_split(message: bytes, cuts: list[int]) -> None:
    framed = b"\0" + len(message).to_bytes(4) + message
    assert outcome(pieces_of(framed, cuts)) == message


@given(st.binary(max_size=60), cuts)
def test_arbitrary_bytes_mean_the_same_however_they_are_split(data: bytes, cuts: list[int]) -> None:
    assert outcome(pieces_of(data, cuts)) == outcome([data])


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b":status", b"grpc-status", b"grpc-message", b"x"]), st.binary(max_size=12)
        )
    )
)
def test_no_header_crashes_the_reply(fields: list[tuple[bytes, bytes]]) -> None:
    reply = GrpcReply()
    reply.take_headers(fields)
    reply.take_end()
    with pytest.raises(KmsconnError):
        reply.message()


@given(st.binary(max_size=40))
def test_no_text_crashes_percent_decoding(text: bytes) -> None:
    percent_decoded(text)


# HTTP/2.


def opened() -> tuple[Watched, h2.connection.H2Connection]:
    """Return a client with two streams and the server that knows them."""
    client = Watched()
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    server.initiate_connection()
    client.receive(server.data_to_send())
    for _ in range(2):
        client.streams.open(HEADERS, [b"question"])
    server.receive_data(client.data_to_send())
    client.receive(server.data_to_send())
    return client, server


@given(
    st.lists(st.integers(0, 40_000), min_size=1, max_size=6), st.lists(st.integers(1, 40_000), max_size=30)
)
def test_windows_are_kept_and_nothing_is_lost_or_reordered(sizes: list[int], grants: list[int]) -> None:
    """The server's h2 raises when a window is not kept."""
    client, server = opened()
    messages = {
        client.streams.open(HEADERS, [bytes([n]) * size]): bytes([n]) * size
        for n, size in enumerate(sizes, 1)
    }
    got = dict.fromkeys(messages, b"")

    def exchange() -> None:
        while data := client.data_to_send():
            for event in server.receive_data(data):
                if isinstance(event, h2.events.DataReceived) and event.stream_id in got:
                    got[event.stream_id] += event.data
        client.receive(server.data_to_send())

    exchange()
    for grant in grants:
        server.increment_flow_control_window(grant)
        exchange()
    assert all(messages[stream].startswith(data) for stream, data in got.items())
    server.increment_flow_control_window(1_000_000)
    client.receive(server.data_to_send())
    exchange()
    assert got == messages
