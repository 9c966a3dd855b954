"""The HTTP/2 connection against h2's server side, and frame by frame, in memory."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import hpack
import pytest
from hyperframe.frame import Frame, GoAwayFrame, RstStreamFrame, SettingsFrame

from kmsconn.emulator.http2 import DataCame, Event, HeadersCame, StreamEnded, StreamReset
from kmsconn.transport.grpc import frames, http2, streams
from kmsconn.transport.grpc.frames import Cutter, ErrorCode, Http2Error, settings_frame
from kmsconn.transport.grpc.framing import request_headers
from kmsconn.transport.grpc.headers import encode
from kmsconn.transport.grpc.streams import MAX_OWED
from tests.behaviours import SCRIPTED, shows
from tests.http2_events import Watched

HEADERS = request_headers("/p.S/M", "host:1", "http")
ANSWER = [(":status", "200"), ("content-type", "application/grpc")]
TRAILERS = [("grpc-status", "0")]
DATA_ON_STREAM_0 = b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x"


class Pair:
    """A client under test and a server of h2, with what each has said to the other."""

    def __init__(self, **settings: int) -> None:
        self.client = Watched()
        self.server = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None)
        )
        codes = {h2.settings.SettingCodes[name.upper()]: value for name, value in settings.items()}
        self.server.local_settings = h2.settings.Settings(client=False, initial_values=codes)
        self.server.max_inbound_frame_size = settings.get("max_frame_size", 16_384)
        self.server.initiate_connection()
        self.seen: list[h2.events.Event] = []
        self.exchange()

    def exchange(self) -> list[Event]:
        """Let both sides talk until neither has more to say; return the client's events."""
        events: list[Event] = []
        while True:
            there, back = self.client.data_to_send(), self.server.data_to_send()
            if not there and not back:
                return events
            if there:
                self.seen += self.server.receive_data(there)
            if back:
                events += self.client.receive(back)

    def received(self, stream: int) -> bytes:
        """Return the message bytes that the server has of a stream."""
        return b"".join(
            event.data
            for event in self.seen
            if isinstance(event, h2.events.DataReceived) and event.stream_id == stream
        )

    def saw(self, kind: type[h2.events.Event]) -> bool:
        return any(isinstance(event, kind) for event in self.seen)

    def answer(self, stream: int, data: bytes = b"reply") -> None:
        self.server.send_headers(stream, ANSWER)
        self.server.send_data(stream, data)
        self.server.send_headers(stream, TRAILERS, end_stream=True)


def calling(*pieces: bytes, **settings: int) -> tuple[Pair, int]:
    """Return a client that has sent a call of these pieces, and its stream."""
    pair = Pair(**settings)
    stream = pair.client.streams.open(HEADERS, pieces)
    pair.exchange()
    return pair, stream


# A call.


def test_a_call_arrives_and_is_answered() -> None:
    pair, stream = calling(b"question")
    assert pair.received(stream) == b"question"
    assert pair.saw(h2.events.StreamEnded)
    pair.answer(stream)
    assert pair.exchange() == [
        HeadersCame(stream, ((b":status", b"200"), (b"content-type", b"application/grpc"))),
        DataCame(stream, b"reply"),
        HeadersCame(stream, ((b"grpc-status", b"0"),)),
        StreamEnded(stream),
    ]


@pytest.mark.parametrize(
    ("pieces", "received", "frames"), [((b"a", b"", b"bc", b"d"), b"abcd", 1), ((), b"", 0)]
)
def test_small_pieces_share_a_frame_and_keep_their_order_and_none_are_no_data(
    pieces: tuple[bytes, ...], received: bytes, frames: int
) -> None:
    pair, stream = calling(*pieces)
    assert pair.received(stream) == received
    assert len([one for one in pair.seen if isinstance(one, h2.events.DataReceived) and one.data]) == frames
    assert pair.saw(h2.events.StreamEnded)


def test_the_server_s_frame_size_is_respected() -> None:
    pair = Pair(max_frame_size=20_000, initial_window_size=100_000)
    pair.client.streams.open(HEADERS, [bytes(50_000)])
    pair.exchange()
    sizes = [len(event.data) for event in pair.seen if isinstance(event, h2.events.DataReceived)]
    assert sizes == [20_000, 20_000, 10_000]


# Flow control.


def test_nothing_is_sent_beyond_the_window_and_an_update_lets_the_rest_go() -> None:
    message = bytes(range(256)) * 1000
    pair, stream = calling(message)
    assert len(pair.received(stream)) == 65_535
    for _ in range(4):
        pair.server.increment_flow_control_window(65_535)
        pair.server.increment_flow_control_window(65_535, stream)
        pair.exchange()
    assert pair.received(stream) == message


def test_a_large_message_is_sent_in_bursts() -> None:
    """A reset or a ping answer never waits behind more than a burst."""
    pair = Pair(initial_window_size=10_000_000)
    pair.server.increment_flow_control_window(10_000_000)
    pair.exchange()
    pair.client.streams.open(HEADERS, [bytes(5_000_000)])
    assert len(pair.client.data_to_send()) <= http2.BURST + 20_000


def test_20_mib_come_in_without_the_caller_s_help() -> None:
    pair, stream = calling(b"?")
    pair.server.send_headers(stream, ANSWER)
    missing, got = 20 * 1024 * 1024, 0
    while missing:
        size = min(
            missing, pair.server.local_flow_control_window(stream), pair.server.max_outbound_frame_size
        )
        assert size
        pair.server.send_data(stream, bytes(size))
        missing -= size
        got += sum(len(event.data) for event in pair.exchange() if isinstance(event, DataCame))
    assert got == 20 * 1024 * 1024


# The end of a stream before its end.


def test_closing_an_open_stream_cancels_it_and_drops_what_was_not_sent() -> None:
    pair, stream = calling(bytes(100_000))
    pair.client.streams.close(stream)
    pair.server.increment_flow_control_window(100_000)
    pair.exchange()
    reset = next(event for event in pair.seen if isinstance(event, h2.events.StreamReset))
    assert (reset.stream_id, reset.error_code) == (stream, h2.errors.ErrorCodes.CANCEL)
    assert len(pair.received(stream)) == 65_535


def test_closing_a_stream_that_ended_says_nothing() -> None:
    pair, stream = calling(b"x")
    pair.answer(stream)
    pair.exchange()
    pair.client.streams.close(stream)
    pair.client.streams.close(stream)
    assert pair.client.data_to_send() == b""


def test_what_still_comes_for_a_closed_stream_keeps_the_connection_s_window() -> None:
    pair = Pair()
    for _ in range(100):
        stream = pair.client.streams.open(HEADERS, [b"x"])
        pair.exchange()
        pair.server.send_headers(stream, ANSWER)
        for _ in range(10):
            pair.server.send_data(stream, bytes(pair.server.max_outbound_frame_size))
        pair.client.streams.close(stream)
        assert not [event for event in pair.exchange() if isinstance(event, DataCame)]
    assert pair.server.outbound_flow_control_window > http2.CONNECTION_WINDOW // 4


@shows("a reply before the request was read", SCRIPTED)
def test_an_answer_before_the_question_was_read_stops_the_question() -> None:
    pair, stream = calling(bytes(100_000))
    pair.server.send_headers(stream, [*ANSWER, ("grpc-status", "8")], end_stream=True)
    assert pair.exchange()[-1] == StreamEnded(stream)
    assert pair.saw(h2.events.StreamReset)


def test_a_reset_after_the_end_is_harmless() -> None:
    """It crosses our END_STREAM when a server answers before it has read all; h2 would end the connection."""
    pair, stream = calling(b"x")
    pair.answer(stream)
    pair.exchange()
    pair.client.streams.open(HEADERS, [b"y"])
    assert pair.client.receive(RstStreamFrame(stream, error_code=0).serialize()) == []
    assert not pair.client.streams.over


# GOAWAY.


def goaway(last: int, code: int = 0) -> bytes:
    return GoAwayFrame(0, last_stream_id=last, error_code=code).serialize()


@shows("GOAWAY: earlier calls end well, later ones go over a new connection", SCRIPTED)
def test_the_streams_that_goaway_names_still_end() -> None:
    pair, stream = calling(bytes(100_000))
    pair.client.receive(goaway(stream))
    pair.server.increment_flow_control_window(100_000)
    pair.server.increment_flow_control_window(100_000, stream)
    pair.exchange()
    assert len(pair.received(stream)) == 100_000
    pair.answer(stream)
    assert pair.exchange()[-1] == StreamEnded(stream)


def test_after_goaway_no_stream_may_be_opened() -> None:
    pair = Pair()
    assert not pair.client.streams.over
    pair.client.receive(goaway(2**31 - 1))
    assert pair.client.streams.over


# Limits and signs of life.


def test_before_the_settings_no_stream_is_allowed_and_a_server_without_a_limit_gets_a_finite_one() -> None:
    connection = Watched()
    assert (connection.settled, connection.max_streams) == (False, 0)
    connection.receive(SettingsFrame(0).serialize())
    assert connection.max_streams == frames.MOST_STREAMS


@pytest.mark.parametrize("limit", [0, 1, 250])
def test_the_server_s_limit_of_streams_is_known_and_one_that_is_lowered_later(limit: int) -> None:
    pair = Pair(max_concurrent_streams=limit)
    assert pair.client.max_streams == limit
    pair.server.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 3})
    pair.exchange()
    assert pair.client.max_streams == 3


@shows("pings of the server are answered", SCRIPTED)
def test_pings_are_answered() -> None:
    pair = Pair()
    pair.server.ping(b"12345678")
    pair.exchange()
    assert pair.saw(h2.events.PingAckReceived)


def test_a_ping_is_sent() -> None:
    pair = Pair()
    pair.client.ping()
    assert pair.exchange() == []
    assert pair.saw(h2.events.PingReceived)


# A peer that breaks the protocol.


def test_a_broken_connection_takes_orders_without_complaint() -> None:
    pair = Pair()
    stream = pair.client.streams.open(HEADERS, [bytes(100_000)])
    with pytest.raises(Http2Error):
        pair.client.receive(DATA_ON_STREAM_0)
    assert pair.client.streams.over
    pair.client.streams.close(stream)
    pair.client.ping()
    pair.client.data_to_send()


@shows("unknown frames, and late frames of ended streams, are ignored", SCRIPTED)
def test_unknown_frames_are_ignored() -> None:
    pair = Pair()
    frame = b"\x00\x00\x03\xfa\x00\x00\x00\x00\x00abc"
    assert Frame.parse_frame_header(memoryview(frame[:9]))[1] == 3
    assert pair.client.receive(frame) == []
    assert pair.client.receive(frames.frame(0xBE, 255, 77, b"of a stream that never was")) == []


# Frame by frame: what h2's server cannot be made to send.


def raw() -> Watched:
    """Return a connection that has the peer's settings and one stream whose message is gone; its output is empty."""
    connection = Watched()
    connection.receive(settings_frame({}))
    connection.streams.open(HEADERS, [b"x"])
    connection.data_to_send()
    return connection


def answering() -> Watched:
    """Return a connection whose call has the head of its answer."""
    connection = raw()
    assert connection.receive(RESPONSE) == [CAME]
    return connection


def headers(
    fields: list[tuple[bytes, bytes]], stream: int = 1, flags: int = frames.END_HEADERS, pad: int = 0
) -> bytes:
    block = encode(tuple(fields))
    if pad:
        flags, block = flags | frames.PADDED, bytes([pad]) + block + bytes(pad)
    return frames.frame(frames.HEADERS, flags, stream, block)


RESPONSE = headers([(b":status", b"200")])
ENDING = headers([(b"grpc-status", b"0")], flags=frames.END_HEADERS | frames.END_STREAM)
CAME = HeadersCame(1, ((b":status", b"200"),))
TRAILERS_CAME = [HeadersCame(1, ((b"grpc-status", b"0"),)), StreamEnded(1)]
MALFORMED = [StreamReset(1, ErrorCode.PROTOCOL_ERROR)]
RESET = frames.word_frame(frames.RST_STREAM, 1, ErrorCode.PROTOCOL_ERROR)


def data(payload: bytes, stream: int = 1, flags: int = 0) -> bytes:
    return frames.frame(frames.DATA, flags, stream, payload)


def test_a_call_s_first_bytes_are_preface_settings_and_window() -> None:
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    events = server.receive_data(Watched().data_to_send())
    assert [type(event) for event in events] == [h2.events.RemoteSettingsChanged, h2.events.WindowUpdated]
    assert server.remote_settings.enable_push == 0
    assert server.remote_settings.header_table_size == 0
    assert server.outbound_flow_control_window == http2.CONNECTION_WINDOW


def test_several_calls_leave_in_one_piece() -> None:
    connection = raw()
    for _ in range(3):
        connection.streams.open(HEADERS, [b"y"])
    sent = list(Cutter(100_000).cut(connection.data_to_send()))
    assert [(kind, stream) for kind, _, stream, _ in sent] == [(1, 3), (1, 5), (1, 7), (0, 3), (0, 5), (0, 7)]


@pytest.mark.parametrize("first", [RESPONSE, settings_frame({})[:3] + b"\x04\x01" + bytes(4)])
def test_a_peer_that_does_not_begin_with_settings_speaks_something_else(first: bytes) -> None:
    with pytest.raises(Http2Error, match="did not begin"):
        Watched().receive(first)


# Headers.


def test_the_end_of_a_stream_stands_in_the_first_frame_of_its_trailers() -> None:
    connection = answering()
    block = encode(((b"grpc-status", b"0"),))
    connection.receive(frames.frame(frames.HEADERS, frames.END_STREAM, 1, block[:5]))
    rest = frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[5:])
    assert connection.receive(rest) == TRAILERS_CAME


@shows("a protocol error ends the connection with a reason for the peer; calls are unreachable", SCRIPTED)
@pytest.mark.parametrize(
    "between",
    [
        data(b"x"),
        frames.frame(frames.PING, 0, 0, bytes(8)),
        frames.frame(0xBE, 0, 0),
        frames.frame(frames.CONTINUATION, 4, 3),
        RESPONSE,
    ],
    ids=["data", "ping", "unknown", "other stream", "headers"],
)
def test_nothing_may_stand_within_a_header_block(between: bytes) -> None:
    connection = raw()
    connection.receive(frames.frame(frames.HEADERS, 0, 1, b"\x88"))
    with pytest.raises(Http2Error) as caught:
        connection.receive(between)
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR


def test_continuation_of_nothing_is_a_fault() -> None:
    with pytest.raises(Http2Error, match="CONTINUATION"):
        raw().receive(frames.frame(frames.CONTINUATION, 4, 1, b"\x88"))


@shows("unbounded input is stopped: header blocks, pings, settings", SCRIPTED)
@pytest.mark.parametrize("piece", [b"", b"\0" * 1000])
def test_an_endless_header_block_is_stopped(piece: bytes) -> None:
    connection = raw()
    connection.receive(frames.frame(frames.HEADERS, 0, 1, b""))
    with pytest.raises(Http2Error, match="endless") as caught:
        connection.receive(frames.frame(frames.CONTINUATION, 0, 1, piece) * 8000)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


@shows("interim responses (1xx) are ignored", SCRIPTED)
def test_interim_responses_are_passed_over() -> None:
    connection = raw()
    interim = headers([(b":status", b"103"), (b"link", b"x")])
    assert connection.receive(interim + interim + RESPONSE) == [CAME]


@shows("header blocks in many frames, with padding, with a table", SCRIPTED)
def test_headers_may_be_padded_and_carry_a_priority() -> None:
    flags = frames.END_HEADERS | frames.WITH_PRIORITY | frames.PADDED
    payload = b"\x03" + bytes(5) + encode(((b":status", b"200"),)) + bytes(3)
    assert raw().receive(frames.frame(frames.HEADERS, flags, 1, payload)) == [CAME]
    assert raw().receive(headers([(b":status", b"200")], pad=200)) == [CAME]


@shows("every status with its text, in trailers alone or after headers", SCRIPTED)
def test_a_trailers_only_answer() -> None:
    answer = [(b":status", b"200"), (b"grpc-status", b"5")]
    came = raw().receive(headers(answer, flags=frames.END_HEADERS | frames.END_STREAM))
    assert came == [HeadersCame(1, tuple(answer)), StreamEnded(1)]


@shows("a malformed response resets its stream only", SCRIPTED)
@pytest.mark.parametrize(
    "chunk",
    [
        data(b"x"),
        ENDING,
        headers([(b":status", b"100")], flags=frames.END_HEADERS | frames.END_STREAM),
        headers([(b":status", b"200"), (b"Upper", b"1")]),
        RESPONSE + RESPONSE,
        RESPONSE + headers([(b"grpc-status", b"0")]),
    ],
    ids=["data first", "trailers first", "interim end", "bad name", "headers twice", "trailers without end"],
)
def test_a_malformed_response_resets_its_stream_only(chunk: bytes) -> None:
    connection = raw()
    assert [event for event in connection.receive(chunk) if event != CAME] == MALFORMED
    assert connection.data_to_send() == RESET
    assert not connection.streams.over


def test_what_still_comes_after_a_malformed_response_is_passed_over() -> None:
    connection = raw()
    connection.receive(data(b"x"))
    assert connection.receive(RESPONSE + data(b"y") + ENDING) == []


# Data and windows.


@shows("windows both ways: kept, granted again, changed while calls run, negative", SCRIPTED)
def test_padding_is_no_message_but_counts() -> None:
    connection = answering()
    assert connection.receive(data(b"\x04text" + bytes(4), flags=frames.PADDED)) == [DataCame(1, b"text")]
    assert connection._on_streams.credit.left == http2.CONNECTION_WINDOW - 9


@shows("windows both ways: kept, granted again, changed while calls run, negative", SCRIPTED)
def test_peer_that_does_not_keep_a_stream_s_window_loses_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STREAM_WINDOW", 100)
    connection = answering()
    assert connection.receive(data(bytes(101))) == [StreamReset(1, ErrorCode.FLOW_CONTROL_ERROR)]
    assert not connection.streams.over


@shows("windows both ways: kept, granted again, changed while calls run, negative", SCRIPTED)
def test_a_peer_that_does_not_keep_the_connection_s_window_loses_the_connection() -> None:
    connection = raw()
    connection._on_streams.credit.left = 100
    with pytest.raises(Http2Error) as caught:
        connection.receive(data(bytes(101)))
    assert caught.value.code is ErrorCode.FLOW_CONTROL_ERROR


def test_a_stream_that_is_held_is_granted_nothing_until_it_may_go_on() -> None:
    connection = answering()
    connection.streams.hold(1)
    for _ in range(16):
        connection.receive(data(bytes(http2.MAX_FRAME)))
    assert connection.data_to_send() == b""
    connection.streams.resume(1)
    assert connection.data_to_send() == frames.word_frame(frames.WINDOW_UPDATE, 1, streams.STREAM_WINDOW)


def test_a_stream_that_is_over_may_be_held_and_resumed() -> None:
    connection = raw()
    connection.streams.close(1)
    connection.data_to_send()
    connection.streams.hold(1)
    connection.streams.resume(1)
    assert connection.data_to_send() == b""


def test_a_stream_that_ended_is_granted_nothing() -> None:
    connection = answering()
    for _ in range(7):
        connection.receive(data(bytes(http2.MAX_FRAME)))
    connection.receive(data(bytes(http2.MAX_FRAME), flags=frames.END_STREAM))
    assert connection.data_to_send() == b""


@shows("windows both ways: kept, granted again, changed while calls run, negative", SCRIPTED)
@pytest.mark.parametrize("amount", [0, 2**31 - 1])
def test_a_stream_s_window_that_grows_by_nothing_or_too_much_loses_the_stream(amount: int) -> None:
    connection = raw()
    events = connection.receive(frames.word_frame(frames.WINDOW_UPDATE, 1, amount))
    code = ErrorCode.FLOW_CONTROL_ERROR if amount else ErrorCode.PROTOCOL_ERROR
    assert events == [StreamReset(1, code)]


@pytest.mark.parametrize("amount", [0, 2**31 - 1])
def test_the_connection_s_window_that_grows_by_nothing_or_too_much_loses_the_connection(amount: int) -> None:
    with pytest.raises(Http2Error):
        raw().receive(frames.word_frame(frames.WINDOW_UPDATE, 0, amount))


def test_a_raised_initial_window_widens_open_streams_too_far() -> None:
    connection = raw()
    connection.receive(frames.word_frame(frames.WINDOW_UPDATE, 1, 2**31 - 1 - 65_534))
    with pytest.raises(Http2Error) as caught:
        connection.receive(settings_frame({4: 65_536}))
    assert caught.value.code is ErrorCode.FLOW_CONTROL_ERROR


@shows("windows both ways: kept, granted again, changed while calls run, negative", SCRIPTED)
def test_a_negative_window_must_be_filled_before_it_lets_anything_go() -> None:
    """65,535 sent; the initial size goes down to 10, so that many less 10 are owed before the next byte."""
    pair, stream = calling(bytes(100_000))
    pair.client.receive(frames.word_frame(frames.WINDOW_UPDATE, 0, 1_000_000))
    pair.client.receive(settings_frame({4: 10}))
    pair.client.data_to_send()
    pair.client.receive(frames.word_frame(frames.WINDOW_UPDATE, stream, 65_525))
    assert pair.client.data_to_send() == b""
    pair.client.receive(frames.word_frame(frames.WINDOW_UPDATE, stream, 1))
    assert pair.client.data_to_send() == data(b"\0", stream)


@shows("windows both ways: kept, granted again, changed while calls run, negative", SCRIPTED)
def test_a_raised_initial_window_lets_an_open_stream_go_on() -> None:
    pair, stream = calling(bytes(100), initial_window_size=10)
    pair.server.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 60})
    pair.exchange()
    assert len(pair.received(stream)) == 60


# Streams that are over, streams that never were.


@shows("a protocol error ends the connection with a reason for the peer; calls are unreachable", SCRIPTED)
@pytest.mark.parametrize(
    "chunk",
    [
        data(b"x", stream=4),
        data(b"x", stream=3),
        DATA_ON_STREAM_0,
        headers([(b":status", b"200")], stream=2),
        headers([(b":status", b"200")], stream=0),
        frames.word_frame(frames.RST_STREAM, 3, 0),
        frames.word_frame(frames.RST_STREAM, 0, 0),
        frames.word_frame(frames.WINDOW_UPDATE, 3, 1),
        frames.frame(frames.PRIORITY, 0, 0, bytes(5)),
        frames.frame(frames.PUSH_PROMISE, 4, 1, bytes(4) + b"\x88"),
        frames.frame(frames.SETTINGS, 0, 1),
        frames.frame(frames.SETTINGS, 1, 0, bytes(6)),
        frames.frame(frames.PING, 0, 1, bytes(8)),
        frames.frame(frames.PING, 0, 0, bytes(7)),
        frames.frame(frames.GOAWAY, 0, 1, bytes(8)),
        frames.frame(frames.GOAWAY, 0, 0, bytes(7)),
        frames.frame(frames.RST_STREAM, 0, 1, bytes(5)),
        frames.frame(frames.WINDOW_UPDATE, 0, 1, bytes(3)),
        frames.frame(frames.DATA, frames.PADDED, 1, b"\x09x"),
        frames.frame(frames.HEADERS, 4, 1, b"\x80"),
        frames.frame(frames.HEADERS, 4 | frames.WITH_PRIORITY, 1, b"1234"),
    ],
)  # fmt: skip
def test_a_broken_rule_of_the_connection_is_told_the_peer(chunk: bytes) -> None:
    connection = raw()
    with pytest.raises(Http2Error) as caught:
        connection.receive(chunk)
    farewell = connection.data_to_send()
    assert (farewell[3], int.from_bytes(farewell[13:17])) == (frames.GOAWAY, caught.value.code)
    assert str(caught.value).encode() in farewell
    assert connection.data_to_send() == b""


@shows("unknown frames, and late frames of ended streams, are ignored", SCRIPTED)
@pytest.mark.parametrize(
    "chunk",
    [
        RESPONSE,
        data(b"late"),
        ENDING,
        frames.word_frame(frames.RST_STREAM, 1, 0),
        frames.word_frame(frames.WINDOW_UPDATE, 1, 1),
        frames.word_frame(frames.WINDOW_UPDATE, 1, 0),
        frames.frame(frames.PRIORITY, 0, 1, bytes(5)),
        frames.frame(frames.PRIORITY, 0, 9, bytes(5)),
    ],
)
def test_what_comes_late_for_a_closed_stream_is_passed_over(chunk: bytes) -> None:
    connection = raw()
    connection.streams.close(1)
    connection.data_to_send()
    assert connection.receive(chunk) == []
    assert connection.data_to_send() == b""
    assert not connection.streams.over


@shows("header blocks in many frames, with padding, with a table", SCRIPTED)
def test_a_block_for_a_closed_stream_still_fills_the_table() -> None:
    connection = raw()
    connection.streams.open(HEADERS, [b"y"])
    connection.streams.close(1)
    encoder = hpack.Encoder()
    fields = [(b":status", b"200"), (b"x", b"y")]
    blocks = [frames.frame(frames.HEADERS, 4, stream, encoder.encode(fields)) for stream in (1, 3)]
    assert connection.receive(b"".join(blocks)) == [HeadersCame(3, tuple(fields))]


def test_a_priority_of_a_wrong_size_loses_its_stream() -> None:
    events = raw().receive(frames.frame(frames.PRIORITY, 0, 1, bytes(4)))
    assert events == [StreamReset(1, ErrorCode.FRAME_SIZE_ERROR)]


# GOAWAY, pings, settings.


def test_goaway_says_why() -> None:
    connection = raw()
    connection.receive(
        GoAwayFrame(0, last_stream_id=1, error_code=11, additional_data=b"too_many_pings").serialize()
    )
    assert connection.goodbye == "ENHANCE_YOUR_CALM too_many_pings"


@shows("GOAWAY: the call that was not processed is unreachable and says so", SCRIPTED)
def test_a_second_goaway_refuses_more_streams() -> None:
    """A server that stops in good order names all streams first, and then those that it will finish."""
    connection = raw()
    assert connection.receive(goaway(2**31 - 1)) == []
    assert connection.receive(goaway(0)) == [StreamReset(1, ErrorCode.REFUSED_STREAM)]


def test_of_a_stream_that_goaway_refused_nothing_more_is_sent() -> None:
    pair = Pair()
    pair.client.streams.open(HEADERS, [bytes(100_000)])
    pair.exchange()
    pair.client.receive(goaway(0))
    pair.client.receive(frames.word_frame(frames.WINDOW_UPDATE, 0, 100_000))
    assert pair.client.data_to_send() == b""


def test_after_the_last_stream_number_the_connection_drains() -> None:
    connection = raw()
    connection.streams._next = 2**31 - 3
    assert not connection.streams.over
    assert connection.streams.open(HEADERS, []) == 2**31 - 3
    assert connection.streams.over


@shows("unbounded input is stopped: header blocks, pings, settings", SCRIPTED)
@pytest.mark.parametrize("asked", [frames.frame(frames.PING, 0, 0, bytes(8)), settings_frame({})])
def test_a_peer_that_asks_without_end_and_takes_no_answer_is_stopped(asked: bytes) -> None:
    with pytest.raises(Http2Error) as caught:
        raw().receive(asked * (MAX_OWED + 1))
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_a_peer_that_asks_without_end_and_takes_its_answers_may_go_on() -> None:
    connection = raw()
    for _ in range(3 * MAX_OWED):
        connection.receive(frames.frame(frames.PING, 0, 0, bytes(8)))
        connection.data_to_send()


def test_settings_are_acknowledged_after_they_hold() -> None:
    connection = raw()
    connection.receive(settings_frame({3: 7}))
    assert connection.max_streams == 7
    assert connection.data_to_send() == frames.frame(frames.SETTINGS, frames.ACK, 0)
