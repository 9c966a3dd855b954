"""Laws of websocket frames: another implementation reads and writes the same, and how bytes are split changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import attrs
from hypothesis import event, given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, ParseFailed
from wsproto.frame_protocol import Opcode as Theirs

from kmsconn.chain.frames import FrameReader, Opcode, frame

MAX = 1 << 20
KEYS = st.binary(min_size=4, max_size=4)
SIZES = st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
PAYLOADS = st.one_of(st.binary(max_size=300), SIZES.map(bytes))
TEXTS = st.text("a{\u00e9\u20ac\U0001f600", max_size=200)


@attrs.define
class Heard:
    """What became of the bytes of a server."""

    messages: list[bytes] = attrs.field(factory=list)
    pongs: list[bytes] = attrs.field(factory=list)
    ended: bool = False


def ours(pieces: Sequence[bytes]) -> Heard:
    heard = Heard()

    def owe(opcode: Opcode, payload: bytes) -> None:
        if opcode is Opcode.PONG:
            heard.pongs.append(payload)

    reader = FrameReader(MAX, owe)
    for piece in pieces:
        heard.messages += reader.receive(piece)
    heard.ended = reader.ended is not None
    return heard


def theirs(data: bytes) -> Heard:
    """Let wsproto read it as a client; text that is no UTF-8 ends there, which ours leaves to the reader of the message."""
    heard, protocol, message = Heard(), FrameProtocol(client=True, extensions=[]), b""
    protocol.receive_bytes(data)
    try:
        for found in protocol.received_frames():
            if found.opcode is Theirs.PING:
                heard.pongs.append(bytes(found.payload))
            elif found.opcode is Theirs.CLOSE:
                heard.ended = True
                return heard
            elif found.opcode is not Theirs.PONG:
                message += _bytes_of(found)
                if found.message_finished:
                    heard.messages.append(message)
                    message = b""
    except ParseFailed:
        heard.ended = True
    return heard


def _bytes_of(found: Frame) -> bytes:
    return found.payload.encode() if isinstance(found.payload, str) else bytes(found.payload)


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


CUTS = st.lists(st.integers(0, 1 << 20), max_size=12)


@st.composite
def server_frames(draw: st.DrawFn) -> bytes:
    """Frames as wsproto's server writes them: messages whole and in fragments, pings and pongs between them, perhaps a closing."""
    server = FrameProtocol(client=False, extensions=[])
    sent = b""
    for _ in range(draw(st.integers(0, 6))):
        whole, text = draw(st.booleans()), draw(st.booleans())
        for last in [True] if whole else [False] * draw(st.integers(1, 3)) + [True]:
            payload: str | bytes = draw(TEXTS) if text else draw(PAYLOADS)
            sent += server.send_data(payload, fin=last)
            if draw(st.booleans()):
                sent += server.ping(draw(st.binary(max_size=125)))
            if draw(st.booleans()):
                sent += server.pong(draw(st.binary(max_size=125)))
    return sent + (server.close(1001, draw(st.text("e\u00e9", max_size=30))) if draw(st.booleans()) else b"")


@settings(deadline=None)
@given(server_frames(), CUTS)
def test_what_another_server_writes_is_read_alike(data: bytes, cuts: list[int]) -> None:
    expected = theirs(data)
    event(f"{len(expected.messages)} messages")
    assert ours(split(data, cuts)) == expected


@settings(deadline=None)
@given(st.sampled_from([Opcode.TEXT, Opcode.BINARY]), TEXTS | SIZES.map("x".__mul__), KEYS)
def test_what_is_written_another_server_reads(opcode: Opcode, text: str, key: bytes) -> None:
    server = FrameProtocol(client=False, extensions=[])
    server.receive_bytes(frame(opcode, text.encode(), key))
    found = list(server.received_frames())
    assert b"".join(map(_bytes_of, found)) == text.encode()
    assert found[-1].message_finished
    assert found[0].opcode == opcode


CRAFTED = st.builds(
    lambda first, length, body: bytes([first]) + length + body,
    st.one_of(st.sampled_from([0x81, 0x82, 0x01, 0x00, 0x80, 0x88, 0x89, 0x8A]), st.integers(0, 255)),
    st.one_of(
        st.integers(0, 6).map(lambda size: bytes([size])),
        st.integers(0, 300).map(lambda size: b"\x7e" + size.to_bytes(2)),
        st.sampled_from([0, 125, 65_535, MAX, MAX + 1, 1 << 62]).map(lambda size: b"\x7f" + size.to_bytes(8)),
        st.integers(0, 255).map(lambda byte: bytes([byte])),
    ),
    st.sampled_from([b"", b"a", b"abc", b"\x03\xe8", b"x" * 126, b"y" * 300]),
)
BYTES = st.one_of(st.binary(max_size=60), st.lists(CRAFTED, max_size=5).map(b"".join))


@settings(deadline=None)
@given(BYTES, CUTS)
def test_how_bytes_are_split_changes_nothing(data: bytes, cuts: list[int]) -> None:
    assert ours(split(data, cuts)) == ours([data])


@settings(deadline=None)
@given(BYTES)
def test_any_bytes_are_read_as_another_implementation_reads_them(data: bytes) -> None:
    """Both hear the same and end at the same frame, one perhaps at its head, where the other waits for what it promises.

    But ours knows a limit, and leaves it to the reader of a text whether it is one.
    """
    expected, found = theirs(data), ours([data])
    event(f"ended {found.ended}, {expected.ended}")
    if _is_text_fault(data):
        assert found.messages[: len(expected.messages)] == expected.messages
        return
    assert (found.messages, found.pongs) == (expected.messages, expected.pongs)
    if found.ended != expected.ended and not _is_over_limit(data):
        rest = bytes(400)
        assert ours([data + rest]) == theirs(data + rest) == attrs.evolve(found, ended=True)


def _is_text_fault(data: bytes) -> bool:
    """Whether wsproto ends for what a text or the reason of a closing holds, or for the code of a closing."""
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(data)
    try:
        list(protocol.received_frames())
    except ParseFailed as error:
        return error.code == CloseReason.INVALID_FRAME_PAYLOAD_DATA or "CLOSE" in str(error)
    return False


def _is_over_limit(data: bytes) -> bool:
    reader = FrameReader(MAX, lambda *_: None)
    reader.receive(data)
    return "more than" in (reader.ended or "")
