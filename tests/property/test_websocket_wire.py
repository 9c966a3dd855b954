"""Laws of the websocket as data: no bytes crash it, where they are split changes nothing, and nothing over the limit is given."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from kmsconn.chain.websocket_wire import NoWebsocket
from tests.property.test_grpc_laws import pieces_of
from tests.unit.chain.test_websocket_wire import Server, wire_to

LIMIT = 400
CUTS = st.lists(st.integers(0, 1 << 12), max_size=12)
CRAFTED = st.builds(
    lambda first, length, body: bytes([first]) + length + body,
    st.one_of(st.sampled_from([0x81, 0x82, 0x01, 0x00, 0x80, 0x88, 0x89, 0x8A]), st.integers(0, 255)),
    st.one_of(
        st.integers(0, 6).map(lambda size: bytes([size])),
        st.integers(0, 300).map(lambda size: b"\x7e" + size.to_bytes(2)),
        st.sampled_from([0, 125, 65_535, LIMIT + 1, 1 << 62]).map(lambda size: b"\x7f" + size.to_bytes(8)),
        st.integers(0, 255).map(lambda byte: bytes([byte])),
    ),
    st.sampled_from([b"", b"a", b"abc", b"\x03\xe8", "\u00e9\u20ac".encode(), b"x" * 126, b"y" * 300]),
)
BYTES = st.one_of(st.binary(max_size=60), st.lists(CRAFTED, max_size=6).map(b"".join))


@attrs.frozen
class Heard:
    """What became of the bytes of a server: its messages, the kinds of frames that are owed, and whether it is over."""

    messages: list[bytes]
    owed: list[int]
    ended: bool


NOTHING = b"\x8a\x00"  # a pong that nobody asked for
REST_OF_A_HEAD = bytes(
    12
)  # the longest is of 14 bytes; we judge none before it is whole, and the library some


def heard(pieces: Sequence[bytes], behind: bytes = b"") -> Heard:
    server = Server(LIMIT, behind)
    messages = [message for piece in pieces for message in server.says(piece)]
    return Heard(messages, server.owed_heads, server.wire.ended is not None)


@settings(deadline=None)
@given(BYTES, CUTS)
def test_any_bytes_mean_the_same_however_they_are_split(data: bytes, cuts: list[int]) -> None:
    whole = heard([data])
    event(f"{len(whole.messages)} messages, ended {whole.ended}")
    assert heard(pieces_of(data, cuts)) == whole


@settings(deadline=None)
@given(BYTES, CUTS)
@example(data=b"\x00\x80", cuts=[])
def test_plain_messages_are_what_the_library_reads(data: bytes, cuts: list[int]) -> None:
    """Where something came with the handshake the library reads everything."""
    data += REST_OF_A_HEAD
    assert heard(pieces_of(data, cuts), NOTHING) == heard([data])


@settings(deadline=None)
@given(BYTES)
def test_nothing_over_the_limit_is_given(data: bytes) -> None:
    assert all(len(message) <= LIMIT for message in heard([data]).messages)


@settings(deadline=None)
@given(st.binary(max_size=80) | st.sampled_from([b"HTTP/1.1 101 x\r\n", b"HTTP/1.1 200 OK\r\n"]), CUTS)
def test_any_answer_to_the_handshake_opens_or_says_why_not(data: bytes, cuts: list[int]) -> None:
    wire, told = wire_to(), ""
    try:
        assert not any(wire.opens(piece) for piece in pieces_of(data, cuts) if piece)
    except NoWebsocket as error:
        told = str(error)
    assert "hidden" not in told
