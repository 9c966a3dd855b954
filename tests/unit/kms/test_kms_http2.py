"""The HTTP/2 connection against h2's server side, byte for byte in memory."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, RstStreamFrame, SettingsFrame

from kmsconn.kms import http2
from kmsconn.kms.framing import request_headers
from kmsconn.kms.http2 import Connection, DataCame, Event, HeadersCame, Http2Error, StreamEnded, StreamReset

HEADERS = request_headers("/p.S/M", "host:1", "http", 1.0)
ANSWER = [(":status", "200"), ("content-type", "application/grpc")]
TRAILERS = [("grpc-status", "0")]
DATA_ON_STREAM_0 = b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x"


class Pair:
    """A client under test and a server of h2, with what each has said to the other."""

    def __init__(self, **settings: int) -> None:
        self.client = Connection()
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


# A call.


def test_a_call_arrives_and_is_answered() -> None:
    pair = Pair()
    stream = pair.client.open(HEADERS, [b"question"])
    pair.exchange()
    assert pair.received(stream) == b"question"
    assert pair.saw(h2.events.StreamEnded)
    pair.answer(stream)
    assert pair.exchange() == [
        HeadersCame(stream, ((b":status", b"200"), (b"content-type", b"application/grpc"))),
        DataCame(stream, b"reply"),
        HeadersCame(stream, ((b"grpc-status", b"0"),)),
        StreamEnded(stream),
    ]


def test_the_answer_means_the_same_byte_by_byte() -> None:
    pair = Pair()
    stream = pair.client.open(HEADERS, [b"question"])
    pair.exchange()
    pair.answer(stream)
    events: list[Event] = []
    for byte in pair.server.data_to_send():
        events += pair.client.receive(bytes([byte]))
    assert [type(event) for event in events] == [HeadersCame, DataCame, HeadersCame, StreamEnded]


def test_small_pieces_share_a_frame_and_keep_their_order() -> None:
    pair = Pair()
    stream = pair.client.open(HEADERS, [b"a", b"", b"bc", b"d"])
    pair.exchange()
    assert pair.received(stream) == b"abcd"
    assert len([event for event in pair.seen if isinstance(event, h2.events.DataReceived)]) == 1


def test_no_pieces_are_no_data() -> None:
    pair = Pair()
    stream = pair.client.open(HEADERS, [])
    pair.exchange()
    assert pair.received(stream) == b""
    assert pair.saw(h2.events.StreamEnded)


def test_the_server_s_frame_size_is_respected() -> None:
    pair = Pair(max_frame_size=20_000, initial_window_size=100_000)
    pair.client.open(HEADERS, [bytes(50_000)])
    pair.exchange()
    sizes = [len(event.data) for event in pair.seen if isinstance(event, h2.events.DataReceived)]
    assert sizes == [20_000, 20_000, 10_000]


# Flow control.


def test_nothing_is_sent_beyond_the_window() -> None:
    pair = Pair()
    stream = pair.client.open(HEADERS, [bytes(100_000)])
    pair.exchange()
    assert len(pair.received(stream)) == 65_535


def test_a_window_update_lets_the_rest_go() -> None:
    pair = Pair()
    message = bytes(range(256)) * 1000
    stream = pair.client.open(HEADERS, [message])
    pair.exchange()
    for _ in range(4):
        pair.server.increment_flow_control_window(65_535)
        pair.server.increment_flow_control_window(65_535, stream)
        pair.exchange()
    assert pair.received(stream) == message


def test_a_stalled_stream_does_not_hold_back_another() -> None:
    """The connection's window is wide, the first stream's is used up."""
    pair = Pair()
    pair.server.increment_flow_control_window(1_000_000)
    pair.client.open(HEADERS, [bytes(100_000)])
    pair.exchange()
    second = pair.client.open(HEADERS, [b"small"])
    pair.exchange()
    assert pair.received(second) == b"small"


def test_streams_take_turns() -> None:
    pair = Pair(initial_window_size=1_000_000)
    pair.server.increment_flow_control_window(1_000_000)
    first, second = pair.client.open(HEADERS, [bytes(200_000)]), pair.client.open(HEADERS, [bytes(200_000)])
    pair.exchange()
    order = [event.stream_id for event in pair.seen if isinstance(event, h2.events.DataReceived)]
    assert order[:4] == [first, second, first, second]


def test_a_large_message_is_handed_out_in_bursts() -> None:
    """A reset or a ping answer never waits behind more than a burst."""
    pair = Pair(initial_window_size=10_000_000)
    pair.server.increment_flow_control_window(10_000_000)
    pair.exchange()
    pair.client.open(HEADERS, [bytes(5_000_000)])
    assert len(pair.client.data_to_send()) <= http2.BURST + 20_000


def test_a_lowered_initial_window_may_make_a_window_negative() -> None:
    pair = Pair()
    stream = pair.client.open(HEADERS, [bytes(100_000)])
    pair.exchange()
    pair.server.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
    pair.server.increment_flow_control_window(100_000)
    pair.exchange()
    assert len(pair.received(stream)) == 65_535


def test_20_mib_come_in_without_the_caller_s_help() -> None:
    pair = Pair()
    stream = pair.client.open(HEADERS, [b"?"])
    pair.exchange()
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


def test_closing_an_open_stream_cancels_it() -> None:
    pair = Pair()
    stream = pair.client.open(HEADERS, [b"x"])
    pair.exchange()
    pair.client.close(stream)
    pair.exchange()
    reset = next(event for event in pair.seen if isinstance(event, h2.events.StreamReset))
    assert (reset.stream_id, reset.error_code) == (stream, h2.errors.ErrorCodes.CANCEL)


def test_closing_drops_what_was_not_sent() -> None:
    pair = Pair()
    stream = pair.client.open(HEADERS, [bytes(100_000)])
    pair.exchange()
    pair.client.close(stream)
    pair.server.increment_flow_control_window(100_000)
    pair.exchange()
    assert len(pair.received(stream)) == 65_535


def test_closing_a_stream_that_ended_says_nothing() -> None:
    pair = Pair()
    stream = pair.client.open(HEADERS, [b"x"])
    pair.exchange()
    pair.answer(stream)
    pair.exchange()
    pair.client.close(stream)
    pair.client.close(stream)
    assert pair.client.data_to_send() == b""


def test_what_still_comes_for_a_closed_stream_keeps_the_connection_s_window() -> None:
    pair = Pair()
    for _ in range(100):
        stream = pair.client.open(HEADERS, [b"x"])
        pair.exchange()
        pair.server.send_headers(stream, ANSWER)
        for _ in range(10):
            pair.server.send_data(stream, bytes(pair.server.max_outbound_frame_size))
        pair.client.close(stream)
        assert not [event for event in pair.exchange() if isinstance(event, DataCame)]
    assert pair.server.outbound_flow_control_window > http2.CONNECTION_WINDOW // 4


def test_an_answer_before_the_question_was_read_stops_the_question() -> None:
    pair = Pair()
    stream = pair.client.open(HEADERS, [bytes(100_000)])
    pair.exchange()
    pair.server.send_headers(stream, [*ANSWER, ("grpc-status", "8")], end_stream=True)
    assert pair.exchange()[-1] == StreamEnded(stream)
    assert pair.saw(h2.events.StreamReset)


def test_the_server_s_reset_is_told() -> None:
    pair = Pair()
    stream = pair.client.open(HEADERS, [b"x"])
    pair.exchange()
    pair.server.reset_stream(stream, h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
    assert pair.exchange() == [StreamReset(stream, 11)]


def test_a_reset_after_the_end_is_harmless() -> None:
    """It crosses our END_STREAM when a server answers before it has read all; h2 would end the connection."""
    pair = Pair()
    stream = pair.client.open(HEADERS, [b"x"])
    pair.exchange()
    pair.answer(stream)
    pair.exchange()
    pair.client.open(HEADERS, [b"y"])
    assert pair.client.receive(RstStreamFrame(stream, error_code=0).serialize()) == []
    assert pair.client.usable


# GOAWAY.


def goaway(last: int, code: int = 0) -> bytes:
    return GoAwayFrame(0, last_stream_id=last, error_code=code).serialize()


def test_goaway_refuses_the_streams_above_the_last() -> None:
    pair = Pair()
    streams = [pair.client.open(HEADERS, [b"x"]) for _ in range(3)]
    pair.exchange()
    assert pair.client.receive(goaway(streams[0])) == [
        StreamReset(streams[1], http2.REFUSED_STREAM),
        StreamReset(streams[2], http2.REFUSED_STREAM),
    ]


def test_the_streams_that_goaway_names_still_end() -> None:
    pair = Pair()
    stream = pair.client.open(HEADERS, [bytes(100_000)])
    pair.exchange()
    pair.client.receive(goaway(stream))
    pair.server.increment_flow_control_window(100_000)
    pair.server.increment_flow_control_window(100_000, stream)
    pair.exchange()
    assert len(pair.received(stream)) == 100_000
    pair.answer(stream)
    assert pair.exchange()[-1] == StreamEnded(stream)


def test_after_goaway_no_stream_may_be_opened() -> None:
    pair = Pair()
    assert pair.client.usable
    pair.client.receive(goaway(2**31 - 1))
    assert not pair.client.usable
    assert pair.client.draining


# Limits and signs of life.


def test_before_the_settings_no_stream_is_allowed() -> None:
    connection = Connection()
    assert (connection.settled, connection.max_streams) == (False, 0)


@pytest.mark.parametrize("limit", [0, 1, 250])
def test_the_server_s_limit_of_streams_is_known(limit: int) -> None:
    assert Pair(max_concurrent_streams=limit).client.max_streams == limit


def test_a_server_without_a_limit_gets_a_finite_one() -> None:
    connection = Connection()
    connection.receive(SettingsFrame(0).serialize())
    assert connection.max_streams == http2.MAX_STREAMS


def test_a_limit_lowered_later_is_known() -> None:
    pair = Pair()
    pair.server.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 3})
    pair.exchange()
    assert pair.client.max_streams == 3


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


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        DATA_ON_STREAM_0,
        DataFrame(5, b"never opened").serialize(),
        b"\xff\xff\xff" + bytes(6),
        b"\x00\x00\x04\x07\x00\x00\x00\x00\x00" + bytes(4),
        SettingsFrame(0, settings={4: 2**31 - 1})
        .serialize()
        .replace(b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"),
    ],
)
def test_a_broken_protocol_ends_the_connection(data: bytes) -> None:
    pair = Pair()
    with pytest.raises(Http2Error):
        pair.client.receive(data)
    assert not pair.client.usable


def test_a_broken_connection_takes_orders_without_complaint() -> None:
    pair = Pair()
    stream = pair.client.open(HEADERS, [bytes(100_000)])
    with pytest.raises(Http2Error):
        pair.client.receive(DATA_ON_STREAM_0)
    pair.client.close(stream)
    pair.client.ping()
    pair.client.data_to_send()


def test_unknown_frames_are_ignored() -> None:
    pair = Pair()
    frame = b"\x00\x00\x03\xfa\x00\x00\x00\x00\x00abc"
    assert Frame.parse_frame_header(memoryview(frame[:9]))[1] == 3
    assert pair.client.receive(frame) == []
