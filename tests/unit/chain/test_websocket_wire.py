"""What opens no websocket, the frames of both ends, the limit on a message, and the reasons for an end."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from wsproto.frame_protocol import FrameDecoder

from kmsconn.chain.websocket_wire import TEXT, NoWebsocket, WebSocketWire, client_frame
from kmsconn.transport.urls import parse

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
HELLO = b"\x81\x05Hello"  # RFC 6455, 5.7
PIECES = b"\x01\x03Hel", b"\x80\x02lo"


def wire_to(
    url: str = "ws://user:secret@node:8546/v3/a%20key?token=hidden", limit: int = 1000
) -> WebSocketWire:
    return WebSocketWire(parse(url), limit)


def no_ping(data: bytes) -> None:
    pytest.fail(f"{data!r} is owed, and nothing was asked")


def answer(wire: WebSocketWire, status: str = "101 Switching Protocols", **changed: str | None) -> bytes:
    found = re.search(rb"Sec-WebSocket-Key: (.*)\r\n", wire.request)
    assert found is not None
    digest = hashlib.sha1(found[1] + MAGIC, usedforsecurity=False).digest()
    headers = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": base64.b64encode(digest).decode(),
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


class Server:
    """An open websocket, and what it owes to the server. ``behind`` comes in one piece with the answer to the handshake."""

    def __init__(self, limit: int = 1000, behind: bytes = b"") -> None:
        self.owed: list[bytes] = []
        self.wire = wire_to(limit=limit)
        assert self.wire.opens(answer(self.wire) + behind)

    def says(self, data: bytes) -> list[bytes]:
        found = self.wire.receive(data, self.owed.append)
        return [message for message in found if message is not None]

    @property
    def owed_heads(self) -> list[int]:
        """The first bytes of what is owed: the kind of each frame."""
        return [frame[0] for frame in self.owed]


# The handshake.


def test_the_request_has_all_that_a_server_needs() -> None:
    lines = wire_to().request.decode().split("\r\n")
    assert lines[0] == "GET /v3/a%20key?token=hidden HTTP/1.1"
    assert {
        "Host: node:8546",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Authorization: Basic dXNlcjpzZWNyZXQ=",
    } < set(lines)


def test_a_host_may_be_an_address_and_each_handshake_has_a_key_of_its_own() -> None:
    request = wire_to("ws://[::1]:8546/").request
    assert b"\r\nHost: [::1]:8546\r\n" in b"\r\n" + request
    assert b"Authorization" not in request
    assert wire_to("ws://[::1]:8546/").request != request
    with pytest.raises(NoWebsocket, match="cannot be requested"):
        wire_to(f"ws://{'a' * 64}/")


def test_the_answer_may_come_in_pieces_and_what_stands_behind_it_is_read_next() -> None:
    wire = wire_to()
    data = answer(wire)
    found = [wire.opens(data[at : at + 1]) for at in range(len(data) - 1)]
    assert found == [False] * (len(data) - 1)
    assert wire.opens(data[-1:] + HELLO)
    assert list(wire.receive(b"", no_ping)) == [b"Hello"]


def test_what_came_in_part_behind_the_answer_is_read_to_its_end() -> None:
    """Also where the answer itself came in pieces, however short."""
    wire = wire_to()
    data = answer(wire)
    pieces = [data[at : at + 3] for at in range(0, len(data) - 6, 3)]
    assert not any(wire.opens(piece) for piece in pieces)
    assert wire.opens(data[3 * len(pieces) :] + HELLO[:3])
    assert list(wire.receive(HELLO[3:], no_ping))[-1] == b"Hello"


@pytest.mark.parametrize("status", ["200 OK", "302 Found", "401 Unauthorized", "404 Not Found", "503 Busy"])
def test_another_status_is_told(status: str) -> None:
    wire = wire_to()
    with pytest.raises(NoWebsocket, match=f"no websocket, HTTP {status[:3]}"):
        wire.opens(answer(wire, status))


@pytest.mark.parametrize(
    "changed",
    [
        {"upgrade": None},
        {"upgrade": "h2c"},
        {"connection": None},
        {"connection": "close"},
        {"connection": "\xff"},
        {"sec_websocket_accept": None},
        {"sec_websocket_accept": "dGhlIHNhbXBsZSBub25jZQ=="},
        {"sec_websocket_extensions": "permessage-deflate"},
        {"sec_websocket_protocol": "chat"},
        {"sec_websocket_protocol": "\xff"},
    ],
)
def test_an_answer_that_does_not_fit_opens_nothing(changed: dict[str, str | None]) -> None:
    wire = wire_to()
    with pytest.raises(NoWebsocket, match="no websocket, "):
        wire.opens(answer(wire, "101 Switching Protocols", **changed))


def test_a_head_without_end_opens_nothing() -> None:
    wire = wire_to()
    with pytest.raises(NoWebsocket):
        wire.opens(b"HTTP/1.1 101 Switching\r\n" + b"a: b\r\n" * 4000)


# Messages.


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 126, 65_535, 65_536])
def test_a_written_message_is_one_masked_frame(size: int) -> None:
    message = (b"0123456789" * (size // 10 + 1))[:size]
    decoder = FrameDecoder(client=False)
    decoder.receive_bytes(client_frame(TEXT, message))
    frame = decoder.process_buffer()
    assert frame is not None
    assert isinstance(frame.payload, (bytes, bytearray))
    assert (bytes(frame.payload), frame.frame_finished, frame.message_finished) == (message, True, True)


def test_each_frame_has_a_mask_of_its_own() -> None:
    assert len({client_frame(TEXT, b"Hello") for _ in range(8)}) > 1


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        pytest.param(
            b"\x81\x02\xc3\xa9" + b"\x82\x02\x00\xff", ["\u00e9".encode(), b"\x00\xff"], id="text and binary"
        ),
        pytest.param(b"".join(PIECES) + HELLO, [b"Hello", b"Hello"], id="fragments and what follows"),
        pytest.param(b"\x81\x7e\x03\xe8" + bytes(1000), [bytes(1000)], id="at the limit"),
    ],
)
def test_messages_are_given_as_bytes(data: bytes, messages: list[bytes]) -> None:
    assert Server().says(data) == messages


def test_a_frame_may_come_in_single_bytes() -> None:
    server, data = Server(), b"\x81\x7e\x01\x00" + b"x" * 256
    found = [server.says(data[at : at + 1]) for at in range(len(data))]
    assert found == [[]] * (len(data) - 1) + [[b"x" * 256]]


def test_a_ping_is_owed_a_pong_and_disturbs_no_message() -> None:
    server = Server()
    assert server.says(PIECES[0] + b"\x89\x02hi" + PIECES[1] + b"\x8a\x00") == [b"Hello"]
    assert server.owed_heads == [0x8A]


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x7e\x03\xe9" + bytes(1001),
        b"\x81\x7f" + (1 << 62).to_bytes(8) + bytes(1001),
        b"\x01\x7e\x03\xe8" + bytes(1000) + b"\x80\x01a",
    ],
)
def test_a_message_over_the_limit_ends_the_connection(data: bytes) -> None:
    server = Server()
    assert server.says(HELLO + data) == [b"Hello"]
    assert server.wire.ended == "the server sent a message of more than 1000 bytes"
    assert server.owed_heads == [0x88]


def test_the_limit_is_of_what_a_head_announces() -> None:
    server = Server(limit=9)
    assert server.says(b"\x81\x09" + b"x" * 9) == [b"x" * 9]
    server.says(b"\x81\x0a")
    assert server.wire.ended is not None


# The end.


@pytest.mark.parametrize(
    ("payload", "told", "owed"),
    [
        (b"", "closed", 0),
        (b"\x03\xe9", "closed with 1001", 2),
        (b"\x03\xe8going away", "closed with 1000 going away", 2),
        (b"\x0f\xa1", "closed with 4001", 2),
    ],
)
def test_a_closing_is_told_and_answered(payload: bytes, told: str, owed: int) -> None:
    server = Server()
    assert server.says(HELLO + bytes([0x88, len(payload)]) + payload + HELLO) == [b"Hello"]
    assert server.wire.ended == told
    [frame] = server.owed
    assert frame[:2] == bytes([0x88, 0x80 | owed])


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x80\0\0\0\0",
        b"\xc1\x00",
        b"\x83\x00",
        b"\x09\x00",
        b"\x89\x7e\x00\x7e",
        b"\x80\x00",
        PIECES[0] + HELLO,
        b"\x81\x7e\x00\x7d",
        b"\x81\x7f" + (65_535).to_bytes(8),
        b"\x88\x01\x03",
    ],
)
def test_a_frame_that_must_not_be_ends_the_connection(data: bytes) -> None:
    server = Server()
    assert server.says(HELLO + data) == [b"Hello"]
    assert (server.wire.ended or "").startswith("the server broke the protocol: ")
    assert server.owed_heads == [0x88]


def test_after_the_end_nothing_comes() -> None:
    server = Server()
    server.says(b"\x88\x00")
    assert server.says(HELLO + b"\x89\x00") == []
    assert len(server.owed) == 1
