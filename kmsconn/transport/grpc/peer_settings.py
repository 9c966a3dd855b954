"""The peer's SETTINGS, frame after frame, as one value; and the frame that we send. No state, no I/O.

Source: RFC 9113, 6.5.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

import attrs

from kmsconn.transport.grpc.frames import (
    LARGEST_MAX_FRAME,
    LARGEST_WINDOW,
    SETTINGS,
    SMALLEST_MAX_FRAME,
    ErrorCode,
    Http2Error,
    frame,
    protocol_error,
    size_error,
)

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

FIRST_WINDOW: Final = 65_535  # of the connection, and of streams as long as nobody said otherwise

_ENTRY: Final = struct.Struct(">HI")


def settings_frame(values: Mapping[int, int]) -> bytes:
    """Return a SETTINGS frame with these values."""
    return frame(SETTINGS, 0, 0, b"".join(_ENTRY.pack(*entry) for entry in values.items()))


@attrs.frozen
class PeerSettings:
    """The limits that the peer sets; the defaults hold until it says otherwise. ``max_streams`` None: as many as we like."""

    initial_window: int = FIRST_WINDOW
    max_frame: int = SMALLEST_MAX_FRAME
    max_streams: int | None = None

    def after(self, payload: memoryview) -> PeerSettings:
        """Return the settings after a SETTINGS frame. Raises Http2Error for a size or a value that the RFC forbids."""
        if len(payload) % _ENTRY.size:
            raise size_error("SETTINGS of a broken size")
        settings = self
        for identifier, value in _ENTRY.iter_unpack(payload):
            settings = settings._with(identifier, value)
        return settings

    def _with(self, identifier: int, value: int) -> PeerSettings:
        match identifier:
            case 0x2 if value != 0:  # ENABLE_PUSH
                raise protocol_error("a server does not enable pushes")
            case 0x3:  # MAX_CONCURRENT_STREAMS
                return attrs.evolve(self, max_streams=value)
            case 0x4:  # INITIAL_WINDOW_SIZE
                if value > LARGEST_WINDOW:
                    raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, f"an initial window of {value} bytes")
                return attrs.evolve(self, initial_window=value)
            case 0x5:  # MAX_FRAME_SIZE
                if not SMALLEST_MAX_FRAME <= value <= LARGEST_MAX_FRAME:
                    raise protocol_error(f"frames of at most {value} bytes")
                return attrs.evolve(self, max_frame=value)
        return self
