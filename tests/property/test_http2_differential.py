"""Our HTTP/2 beside h2: a server's bytes mean the same to both, and whatever comes is taken or refused, never more."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import h2.config
import h2.connection
import h2.errors
import h2.exceptions
import h2.settings
import hpack
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsconn.emulator.http2 import Event
from kmsconn.transport.grpc import frames
from kmsconn.transport.grpc.frames import Http2Error
from kmsconn.transport.grpc.framing import request_headers
from kmsconn.transport.grpc.headers import Header, Reader, encode
from tests.http2_events import Watched
from tests.property.h2_oracle import Oracle
from tests.sampling import examples

HEADERS = request_headers("/p.S/M", "host:1", "http")
STREAMS = (1, 3, 5)
Server = h2.connection.H2Connection
PlanStep = Callable[[Server], None]


# A server that h2 plays, on three streams.


def respond(stream: int, status: int, extra: list[Header], *, end: bool) -> PlanStep:
    return lambda server: server.send_headers(stream, [(b":status", b"%d" % status), *extra], end_stream=end)


def trail(stream: int, extra: list[Header]) -> PlanStep:
    def act(server: Server) -> None:
        after_headers(server, stream)
        server.send_headers(stream, [(b"grpc-status", b"0"), *extra], end_stream=True)

    return act


def send(stream: int, data: bytes, pad: int | None, *, end: bool) -> PlanStep:
    def act(server: Server) -> None:
        after_headers(server, stream)
        server.send_data(stream, data, end_stream=end, pad_length=pad)

    return act


def after_headers(server: Server, stream: int) -> None:
    """Raise before the headers of a stream: h2 would send other things there, and refuse them on the other side."""
    if not server.streams[stream].state_machine.headers_sent:
        raise h2.exceptions.ProtocolError


def configure(identifier: int, value: int) -> PlanStep:
    return lambda server: server.update_settings({identifier: value})


streams = st.sampled_from(STREAMS)
names = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True).filter(
    lambda name: name not in {"te", "upgrade"}
)
texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
fields = st.lists(st.builds(lambda n, v: (n.encode(), v.encode()), names, texts), max_size=4)
long_fields = st.builds(lambda size: [(b"long", b"x" * size)], st.integers(0, 20_000))
acts = st.one_of(
    st.builds(respond, streams, st.sampled_from([100, 103, 200, 503]), st.one_of(fields, long_fields), end=st.booleans()),
    st.builds(trail, streams, fields),
    st.builds(send, streams, st.binary(max_size=300), st.one_of(st.none(), st.integers(0, 255)), end=st.booleans()),
    st.builds(lambda stream, code: lambda server: server.reset_stream(stream, code), streams, st.integers(0, 13)),
    st.builds(lambda size: lambda server: server.increment_flow_control_window(size), st.integers(1, 10**6)),
    st.builds(
        lambda stream, size: lambda server: server.increment_flow_control_window(size, stream), streams, st.integers(1, 10**6)
    ),
    st.builds(configure, st.sampled_from([3, 4]), st.integers(0, 10**6)),
    st.builds(configure, st.just(5), st.integers(2**14, 2**24 - 1)),
    st.builds(lambda data: lambda server: server.ping(data), st.binary(min_size=8, max_size=8)),
)  # fmt: skip


def play(script: list[PlanStep], last: int | None) -> bytes:
    """Return what a server says that tries these acts in turn; what it may not do it leaves out."""
    server = Server(h2.config.H2Configuration(client_side=False, header_encoding=None))
    server.initiate_connection()
    server.receive_data(asking(Oracle()).data_to_send())
    for act in script:
        try:
            act(server)
        except (h2.exceptions.ProtocolError, KeyError):
            continue
    goaway = b"" if last is None else frames.frame(frames.GOAWAY, 0, 0, last.to_bytes(4) + bytes(4))
    return server.data_to_send() + goaway


def asking(oracle: Oracle) -> Oracle:
    for _ in STREAMS:
        oracle.open(HEADERS)
    return oracle


def ours() -> Watched:
    connection = Watched()
    for _ in STREAMS:
        connection.streams.open(HEADERS, [])
    connection.data_to_send()
    return connection


def taken(connection: Watched, data: bytes, cuts: list[int]) -> tuple[list[Event], bool]:
    """Return the events of data in pieces up to the end or the fault, and whether there was a fault."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    events: list[Event] = []
    for start, end in pairwise(places):
        try:
            events += connection.receive(data[start:end])
        except Http2Error:
            assert connection.data_to_send()[3] == frames.GOAWAY
            return events, True
        connection.data_to_send()
    return events, False


cuts = st.lists(st.integers(0, 10_000), max_size=6)


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(acts, max_size=12), st.one_of(st.none(), st.sampled_from([0, 1, 3, 2**31 - 1])), cuts)
def test_what_a_server_says_means_the_same_to_h2(
    script: list[PlanStep], last: int | None, cuts: list[int]
) -> None:
    data = play(script, last)
    oracle = asking(Oracle())
    expected = oracle.receive(data)
    assert not oracle.refused
    assert taken(ours(), data, cuts) == (expected, False)


# Frames that nobody sends on purpose.

GREETING = frames.frame(frames.SETTINGS, 0, 0) + frames.frame(frames.SETTINGS, frames.ACK, 0)
blocks = st.one_of(
    st.sampled_from(
        [b"\x88", b"\x08\x03200", encode(((b":status", b"200"),)), encode(((b"grpc-status", b"0"),))]
    ),
    st.binary(max_size=20),
)
payloads = st.one_of(
    blocks, st.binary(max_size=12), st.builds(lambda n: n.to_bytes(4), st.integers(0, 2**32 - 1))
)
wild_frames = st.builds(
    frames.frame,
    st.one_of(st.sampled_from([frames.DATA, frames.HEADERS, frames.CONTINUATION]), st.integers(0, 12)),
    st.one_of(st.sampled_from([0, 1, 4, 5]), st.integers(0, 255)),
    st.sampled_from([0, 1, 1, 1, 2, 3, 5, 7]),
    payloads,
)
wild_chunks = st.one_of(wild_frames, wild_frames, wild_frames, st.binary(max_size=20))


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(wild_chunks, max_size=8).map(b"".join), cuts)
def test_what_h2_takes_means_the_same_to_us(data: bytes, cuts: list[int]) -> None:
    """h2 refuses more: it ends the connection where a stream is at fault, and where a frame is late.

    Of a header block that is not whole yet we refuse more: h2 looks at it once all of it is there.
    """
    oracle = asking(Oracle())
    expected = oracle.receive(GREETING + data)
    events, fault = taken(ours(), GREETING + data, cuts)
    if not (oracle.refused or oracle.waits):
        assert (events, fault) == (expected, False)


# Header blocks.

settings_of_table = st.one_of(st.none(), st.sampled_from([0, 50, 4096]))


@settings(deadline=None)
@given(st.lists(st.tuples(fields, st.booleans(), settings_of_table), max_size=12))
def test_header_blocks_mean_the_same_to_hpack_whatever_is_remembered(
    script: list[tuple[list[Header], bool, int | None]],
) -> None:
    encoder, reader, oracle = hpack.Encoder(), Reader(), hpack.Decoder()
    for said, huffman, size in script:
        if size is not None:
            encoder.header_table_size = size
        for _ in range(2):
            block = encoder.encode(said, huffman=huffman)
            expected = tuple(tuple(field) for field in oracle.decode(block, raw=True))
            assert reader.read(block).fields == expected


@given(st.lists(st.one_of(blocks, st.binary(max_size=60)), max_size=6))
def test_any_bytes_are_a_block_or_refused_as_hpack_does(data: list[bytes]) -> None:
    reader, oracle = Reader(), hpack.Decoder()
    for block in [piece for piece in data for _ in range(2)]:
        try:
            expected = tuple(tuple(field) for field in oracle.decode(block, raw=True))
        except hpack.HPACKError:
            expected = None
        try:
            fields = reader.read(block).fields
        except Http2Error:
            fields = None
        assert fields == expected
        if fields is None:
            return


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=200), st.binary(max_size=300)), max_size=6))
def test_our_blocks_are_read_by_hpack(said: list[Header]) -> None:
    assert [tuple(field) for field in hpack.Decoder().decode(encode(tuple(said)), raw=True)] == said
