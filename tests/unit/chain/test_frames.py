from __future__ import annotations

import pytest

from kmsconn.chain.frames import NORMAL, PROTOCOL_ERROR, TOO_BIG, FrameReader, Opcode, frame, masked

KEY = b"\x37\xfa\x21\x3d"
HELLO = b"\x81\x05Hello"  # RFC 6455, 5.7
PIECES = b"\x01\x03Hel", b"\x80\x02lo"


class Server:
    """A reader, and what it owes to the server."""

    def __init__(self, max_message: int = 1 << 20) -> None:
        self.owed: list[tuple[Opcode, bytes]] = []
        self.reader = FrameReader(max_message, lambda opcode, payload: self.owed.append((opcode, payload)))

    def says(self, data: bytes) -> list[bytes]:
        return self.reader.receive(data)

    @property
    def ended(self) -> str | None:
        return self.reader.ended


def test_a_frame_is_masked_as_in_the_rfc() -> None:
    assert frame(Opcode.TEXT, b"Hello", KEY) == bytes.fromhex("818537fa213d7f9f4d5158")


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, "8280"),
        (125, "82fd"),
        (126, "82fe007e"),
        (65_535, "82feffff"),
        (65_536, "82ff0000000000010000"),
    ],
)
def test_a_length_takes_as_few_bytes_as_it_can(size: int, head: str) -> None:
    written = frame(Opcode.BINARY, bytes(size), KEY)
    assert written[: len(head) // 2].hex() == head
    assert len(written) == len(head) // 2 + 4 + size


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 1000])
def test_masking_twice_is_nothing(size: int) -> None:
    assert masked(masked(b"x" * size, KEY), KEY) == b"x" * size


def test_a_whole_frame_is_a_message() -> None:
    assert Server().says(HELLO) == [b"Hello"]


def test_a_binary_message_is_given_like_a_text() -> None:
    assert Server().says(b"\x82\x02\x00\xff") == [b"\x00\xff"]


def test_an_empty_message_is_one() -> None:
    assert Server().says(b"\x81\x00") == [b""]


def test_several_frames_may_come_at_once() -> None:
    assert Server().says(HELLO * 3 + b"\x81") == [b"Hello"] * 3


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536, 300_000])
def test_a_frame_may_come_in_single_pieces(size: int) -> None:
    server, data = Server(), frame(Opcode.TEXT, b"x" * size, b"\0\0\0\0")
    unmasked = bytes([data[0], data[1] & 0x7F]) + data[2 : -size - 4] + data[-size:]
    found = [server.says(unmasked[at : at + 1]) for at in range(12)]
    assert [*found, server.says(unmasked[12:])][-1] == [b"x" * size]


def test_fragments_are_one_message() -> None:
    server = Server()
    assert server.says(PIECES[0]) == []
    assert server.says(PIECES[1]) == [b"Hello"]


def test_the_message_after_fragments_is_another() -> None:
    assert Server().says(b"".join(PIECES) + HELLO) == [b"Hello", b"Hello"]


def test_empty_fragments_count_too() -> None:
    assert Server().says(b"\x01\x00" + b"\x00\x00" + HELLO.replace(b"\x81", b"\x80")) == [b"Hello"]


def test_a_ping_is_owed_its_payload() -> None:
    server = Server()
    assert server.says(b"\x89\x05Hello") == []
    assert server.owed == [(Opcode.PONG, b"Hello")]


def test_a_ping_between_fragments_disturbs_no_message() -> None:
    server = Server()
    assert server.says(PIECES[0] + b"\x89\x00" + PIECES[1]) == [b"Hello"]
    assert server.owed == [(Opcode.PONG, b"")]


def test_a_pong_is_nothing() -> None:
    server = Server()
    assert server.says(b"\x8a\x03abc" + HELLO) == [b"Hello"]
    assert server.owed == []


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"", "closed"),
        (b"\x03", "closed"),
        (b"\x03\xe9", "closed with 1001"),
        (b"\x03\xe8going away", "closed with 1000 going away"),
        (b"\x03\xe8\xff", "closed with 1000 \ufffd"),
    ],
)
def test_a_closing_is_told_and_answered(payload: bytes, told: str) -> None:
    server = Server()
    assert server.says(HELLO + bytes([0x88, len(payload)]) + payload + HELLO) == [b"Hello"]
    assert server.ended == told
    assert server.owed == [(Opcode.CLOSE, NORMAL.to_bytes(2))]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x81\x80\0\0\0\0", "a masked frame"),
        (b"\x81\xff", "a masked frame"),
        (b"\xc1\x00", "a frame of unknown kind 0xc1"),
        (b"\x91\x00", "a frame of unknown kind 0x91"),
        (b"\x83\x00", "a frame of unknown kind 0x83"),
        (b"\x8f\x00", "a frame of unknown kind 0x8f"),
        (b"\x09\x00", "a control frame that is long or in pieces"),
        (b"\x89\x7e\x00\x7e", "a control frame that is long or in pieces"),
        (b"\x80\x00", "a message within another, or the continuation of none"),
        (PIECES[0] + HELLO, "a message within another, or the continuation of none"),
        (b"\x81\x7e\x00\x7d", "a length with leading zeros"),
        (b"\x81\x7f" + (65_535).to_bytes(8), "a length with leading zeros"),
    ],
)
def test_a_frame_that_must_not_be_ends_the_connection(data: bytes, told: str) -> None:
    server = Server()
    assert server.says(HELLO + data) == [b"Hello"]
    assert server.ended == f"the server sent {told}"
    assert server.owed == [(Opcode.CLOSE, PROTOCOL_ERROR.to_bytes(2))]


@pytest.mark.parametrize("data", [b"\x81\x7e\x03\xe9", b"\x81\x7f" + (1 << 63).to_bytes(8)])
def test_a_message_over_the_limit_ends_the_connection_before_its_bytes_came(data: bytes) -> None:
    server = Server(1000)
    assert server.says(data) == []
    assert server.ended == "the server sent a message of more than 1000 bytes"
    assert server.owed == [(Opcode.CLOSE, TOO_BIG.to_bytes(2))]


def test_a_message_at_the_limit_passes() -> None:
    assert Server(1000).says(b"\x81\x7e\x03\xe8" + bytes(1000)) == [bytes(1000)]


def test_the_limit_counts_all_fragments() -> None:
    server = Server(9)
    assert server.says(b"\x01\x05Hello") == []
    assert server.says(b"\x80\x05Hello") == []
    assert server.ended == "the server sent a message of more than 9 bytes"


def test_after_the_end_nothing_comes_and_nothing_is_owed() -> None:
    server = Server()
    server.says(b"\x88\x00")
    assert server.says(HELLO + b"\x89\x00") == []
    assert len(server.owed) == 1
