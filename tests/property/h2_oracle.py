"""The client's side on h2, in the events of ours: an oracle for frames and header blocks, never part of the product.

GOAWAY is taken out before h2 sees it, because h2 allows nothing after it, and so is a reset of a stream that is over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from kmsconn.emulator.http2 import DataCame, Event, HeadersCame, StreamEnded, StreamReset
from kmsconn.transport.grpc import frames, http2, streams
from kmsconn.transport.grpc.frames import Cutter, ErrorCode
from kmsconn.transport.grpc.headers import MAX_BLOCK, Header


class Oracle:
    """Takes a server's bytes as h2 does. ``refused`` says that h2 found fault with them and ended the connection."""

    def __init__(self) -> None:
        self.refused = False
        self._greeted = False
        self._open: set[int] = set()
        self._cutter = Cutter(http2.MAX_FRAME)
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self._h2 = h2.connection.H2Connection(config)
        codes = h2.settings.SettingCodes
        self._h2.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                codes.HEADER_TABLE_SIZE: 0,
                codes.ENABLE_PUSH: 0,
                codes.INITIAL_WINDOW_SIZE: streams.STREAM_WINDOW,
                codes.MAX_FRAME_SIZE: http2.MAX_FRAME,
                codes.MAX_HEADER_LIST_SIZE: MAX_BLOCK,
            },
        )
        self._h2.max_inbound_frame_size = http2.MAX_FRAME
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(http2.CONNECTION_WINDOW - 65_535)

    @property
    def waits(self) -> bool:
        """Whether a header block has begun and not ended."""
        return bool(self._h2.incoming_buffer._headers_buffer)

    def open(self, headers: Sequence[Header]) -> int:
        """Open a stream that says all it has to say at once."""
        stream = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream, headers, end_stream=True)
        self._open.add(stream)
        return stream

    def data_to_send(self) -> bytes:
        return self._h2.data_to_send()

    def receive(self, data: bytes) -> list[Event]:
        """Return the events up to the end or the fault."""
        events: list[Event] = []
        try:
            for kind, flags, stream, payload in self._cutter.cut(data):
                events += self._receive_frame(kind, flags, stream, bytes(payload))
        except (h2.exceptions.H2Error, frames.Http2Error):
            self.refused = True
        return events

    def _receive_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> list[Event]:
        if not self._greeted and (kind != frames.SETTINGS or flags & frames.ACK):
            raise frames.protocol_error("h2 takes anything for a server's first frame, against RFC 9113, 3.4")
        self._greeted = True
        if (
            kind == frames.SETTINGS and flags & frames.ACK
        ):  # h2 waits for an acknowledgement of later settings
            self._h2.decoder.max_allowed_table_size = self._h2.decoder.header_table_size = 0
        if kind == frames.SETTINGS and _said_twice(payload):
            raise frames.protocol_error("h2 looks only at the last of two values, against RFC 9113, 6.5.3")
        if kind == frames.GOAWAY and len(payload) >= 8 and not stream:
            return self._go_away(int.from_bytes(payload[:4]) & frames.STREAM_MASK)
        if kind == frames.RST_STREAM and stream not in self._over | self._open:
            raise frames.protocol_error(
                "h2 passes over a reset of a stream that never was, against RFC 9113, 6.4"
            )
        if kind == frames.RST_STREAM and stream in self._over and len(payload) == 4:
            return []
        frame = frames.frame(kind, flags, stream, payload)
        return [ours for event in self._h2.receive_data(frame) if (ours := self._ours(event))]

    @property
    def _over(self) -> set[int]:
        return set(range(1, self._h2.highest_outbound_stream_id + 1, 2)) - self._open

    def _go_away(self, last: int) -> list[Event]:
        refused = sorted(stream for stream in self._open if stream > last)
        self._open.difference_update(refused)
        for stream in refused:
            self._h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        return [StreamReset(stream, ErrorCode.REFUSED_STREAM) for stream in refused]

    def _ours(self, event: h2.events.Event) -> Event | None:
        match event:
            case h2.events.InformationalResponseReceived():
                _check_status(event.headers)
            case h2.events.ResponseReceived():
                _check_status(event.headers)
                return HeadersCame(event.stream_id, tuple((bytes(n), bytes(v)) for n, v in event.headers))
            case h2.events.TrailersReceived():
                return HeadersCame(event.stream_id, tuple((bytes(n), bytes(v)) for n, v in event.headers))
            case h2.events.DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                return DataCame(event.stream_id, event.data) if event.data else None
            case h2.events.StreamEnded():
                self._open.discard(event.stream_id)
                return StreamEnded(event.stream_id)
            case h2.events.StreamReset():
                self._open.discard(event.stream_id)
                return StreamReset(event.stream_id, int(event.error_code))
            case _:
                pass
        return None


def _check_status(headers: Sequence[Header]) -> None:
    if not re.fullmatch(rb"[1-5]\d\d", bytes(headers[0][1])):
        raise frames.protocol_error("h2 takes anything for a status, against RFC 9113, 8.3.2")


def _said_twice(payload: bytes) -> bool:
    identifiers = [payload[at : at + 2] for at in range(0, len(payload), 6)]
    return len(set(identifiers)) < len(identifiers)
