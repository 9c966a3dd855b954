"""Plain messages: as a client writes them, and which ones are cut out of what a server sends."""

from __future__ import annotations

import pytest
from wsproto.frame_protocol import FrameDecoder

from kmsconn.chain.websocket_wire import FrameCutter, text_frame

HELLO = b"\x81\x05Hello"  # RFC 6455, 5.7
PIECES = b"\x01\x03Hel", b"\x80\x02lo"
PING = b"\x89\x01x"


def cut(*pieces: bytes, limit: int = 1 << 20) -> list[tuple[bool, bytes]]:
    cutter = FrameCutter(limit)
    return [one for piece in pieces for one in cutter.cut(piece)]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 126, 65_535, 65_536])
def test_a_written_message_is_one_masked_frame(size: int) -> None:
    message = (b"0123456789" * (size // 10 + 1))[:size]
    decoder = FrameDecoder(client=False)
    decoder.receive_bytes(text_frame(message))
    frame = decoder.process_buffer()
    assert frame is not None
    assert isinstance(frame.payload, (bytes, bytearray))
    assert (bytes(frame.payload), frame.frame_finished, frame.message_finished) == (message, True, True)


def test_each_frame_has_a_mask_of_its_own() -> None:
    assert len({text_frame(b"Hello") for _ in range(8)}) > 1


def test_whole_messages_are_cut_out() -> None:
    assert cut(HELLO + HELLO) == [(True, b"Hello")] * 2


@pytest.mark.parametrize("size", [0, 125, 126, 65_535])
def test_a_message_of_each_form_of_size_is_plain(size: int) -> None:
    head = bytes([0x81, size]) if size < 126 else b"\x81\x7e" + size.to_bytes(2)
    assert cut(head + b"x" * size) == [(True, b"x" * size)]


@pytest.mark.parametrize(
    "frame",
    [
        PING,
        b"\x82\x05Hello",
        b"\x91\x05Hello",
        b"\x81\x85\0\0\0\0Hello",
        b"\x81\x7e\0\x05Hello",
        b"\x81\x7f\0\0\0\0\0\x01\0\0" + b"x" * 65_536,
        b"\x81\x02" + "\u00e9".encode(),
        b"\x88\x02\x03\xe8",
    ],
)
def test_every_other_frame_stays_as_it_came(frame: bytes) -> None:
    assert cut(HELLO + frame + HELLO) == [(True, b"Hello"), (False, frame), (True, b"Hello")]


def test_a_message_in_pieces_stays_as_it_came_with_what_stands_between_them() -> None:
    first, last = PIECES
    assert cut(first + PING + last + HELLO) == [(False, first + PING + last), (True, b"Hello")]


def test_a_message_that_begins_within_another_one_is_not_plain() -> None:
    assert cut(PIECES[0] + HELLO) == [(False, PIECES[0] + HELLO)]


def test_a_message_over_the_limit_is_not_plain() -> None:
    assert cut(HELLO, limit=4) == [(False, HELLO)]


def test_a_frame_that_has_not_come_as_a_whole_is_not_plain_and_the_next_one_is() -> None:
    assert cut(HELLO[:4], HELLO[4:] + HELLO) == [(False, HELLO[:4]), (False, HELLO[4:]), (True, b"Hello")]


def test_of_a_head_in_pieces_only_its_beginning_is_kept() -> None:
    head = b"\x81\x7e\0\x7e"
    assert cut(head[:1], head[1:3], head[3:] + b"x" * 126) == [(True, b"x" * 126)]
