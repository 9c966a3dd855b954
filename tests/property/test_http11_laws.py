"""Laws of reading HTTP/1.1 on h11: no bytes crash it, where they are split changes nothing, valid answers are read whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.serving.wire import BadRequest, ServedAnswer, Wire
from kmsconn.transport.http11 import HttpError, HttpExchange, make_request
from tests.property.test_grpc_laws import pieces_of

METHODS = st.sampled_from(["GET", "HEAD", "POST"])
CUTS = st.lists(st.integers(0, 10_000), max_size=8)
WORDS = st.sampled_from(
    [
        *(
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.0 200 OK\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 204\r\n",
        ),
        *(b"\r\n", b"\r", b"\n", b" ", b"x", b":", b"Connection: close\r\n", b"X-A: b\r\n", b" fold\r\n"),
        *(b"Content-Length: 3\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(b"0\r\n", b"3\r\nabc\r\n", b"2;x\r\nab\r\n", b"abc", b"\r\n\r\n"),
    ]
)
ALMOST = st.lists(WORDS, max_size=12).map(b"".join)
Outcome = tuple[Any, bytes, bool, bool] | str


def outcome(pieces: list[bytes], method: str, *, ends: bool) -> Outcome:
    """Return what was read, or that it was refused: in which words may depend on where it was split. Whatever else is raised fails."""
    reader, body = HttpExchange(make_request(method, "/", [("Host", "a")])), b""
    try:
        for piece in pieces:
            body += reader.receive(piece)
        if ends:
            reader.receive_end()
    except HttpError:
        return "refused"
    answer = reader.answer
    return (None, body, False, False) if answer is None else (answer.head, body, answer.done, answer.reusable)


@given(ALMOST | st.binary(max_size=80), CUTS, METHODS, st.booleans())
def test_any_bytes_mean_the_same_however_they_are_split(
    data: bytes, cuts: list[int], method: str, ends: bool
) -> None:
    assert outcome(pieces_of(data, cuts), method, ends=ends) == outcome([data], method, ends=ends)


@given(ALMOST, METHODS)
def test_one_byte_at_a_time_means_the_same(data: bytes, method: str) -> None:
    single = [bytes([byte]) for byte in data]
    assert outcome(single, method, ends=True) == outcome([data], method, ends=True)


TOKENS = st.text("abcXYZ-_!09", min_size=1, max_size=8).map(lambda name: f"x{name}")
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20).map(str.strip)


@attrs.frozen
class Valid:
    """A valid answer as bytes, in the way that a server would write it."""

    method: str
    data: bytes
    status: int
    body: bytes
    keeps: bool


@st.composite
def valid_answers(draw: st.DrawFn) -> Valid:
    """Draw an answer, framed in one of the ways there are."""
    method, version = draw(METHODS), draw(st.sampled_from(["1.1", "1.1", "1.0"]))
    status = draw(st.sampled_from([200, 204, 206, 304, 404, 500, 503]))
    fields = draw(st.lists(st.tuples(TOKENS, VALUES), max_size=5))
    framing = draw(st.sampled_from(["length", "end"] + ["chunked"] * (version == "1.1")))
    pieces = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=4))
    closes = draw(st.booleans())
    bodiless = method == "HEAD" or status in {204, 304}
    named = {
        "length": [("Content-Length", str(len(b"".join(pieces))))],
        "chunked": [("Transfer-Encoding", draw(st.sampled_from(["chunked", "Chunked"])))],
        "end": [],
    }[framing]
    fields += named + [("Connection", "close")] * closes
    interim = b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" * draw(st.integers(0, 2))
    lines = "".join(f"{name}: {value}\r\n" for name, value in draw(st.permutations(fields)))
    head = interim + f"HTTP/{version} {status} Some Reason\r\n{lines}\r\n".encode()
    body = b"" if bodiless else _framed(framing, pieces)
    keeps = version == "1.1" and not closes and (bodiless or framing != "end")
    return Valid(method, head + body, status, b"" if bodiless else b"".join(pieces), keeps)


def _framed(framing: str, pieces: list[bytes]) -> bytes:
    if framing != "chunked":
        return b"".join(pieces)
    return b"".join(b"%x;n=v\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nX-T: 1\r\n\r\n"


@given(valid_answers(), CUTS)
def test_valid_answers_are_read_whole(answer: Valid, cuts: list[int]) -> None:
    read = outcome(pieces_of(answer.data, cuts), answer.method, ends=not answer.keeps)
    assert not isinstance(read, str), read
    head, body, done, reusable = read
    assert (head.status, body, done, reusable) == (answer.status, answer.body, True, answer.keeps)


LINES = st.sampled_from(
    [
        *(
            b"Content-Length: 3\r\n",
            b"content-length:  03 \r\n",
            b"Content-Length: 20\r\n",
            b"Connection: keep-alive\r\n",
        ),
        *(b"X-A: b\r\n", b"x-a:\r\n", b"X-B: \xc3\xbc\t\xff \t\r\n", b"Upgrade: x\r\n", b"Connection: x\r\n"),
    ]
)
STATUS_LINES = st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 404\r\n", b"HTTP/1.1 304 \xff \r\n"])


@st.composite
def nearly_plain(draw: st.DrawFn) -> bytes:
    """Draw an answer that is mostly plain."""
    lines = draw(st.lists(LINES, max_size=4))
    return draw(STATUS_LINES) + b"".join(lines) + b"\r\n" + draw(st.binary(max_size=25))


@given(nearly_plain(), CUTS, METHODS, st.booleans())
def test_a_head_in_one_piece_means_the_same_as_one_in_two(
    data: bytes, cuts: list[int], method: str, ends: bool
) -> None:
    """Plain ones are not read by ``h11`` then."""
    first, rest = data[:1], pieces_of(data[1:], cuts)
    assert outcome([first, *rest], method, ends=ends) == outcome([data], method, ends=ends)


HEADS = (
    b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /v1/public-decrypt HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n10\r\n0123456789abcdef\r\n0\r\na: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
    b"HEAD /version HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    b"GET /metrics HTTP/1.0\r\n\r\n",
    b"GET http://x/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
)
INSERTED = (
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\x00",
    b":",
    b"0",
    b"f",
    b"\xff",
    b"content-length: 1\r\n",
    b"transfer-encoding: chunked\r\n",
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Draw requests one behind the other, with some bytes spoiled, taken out, doubled or put in."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(HEADS), min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data) - 1)) if data else 0
        end = min(len(data), at + draw(st.integers(0, 3)))
        data[at:end] = draw(
            st.one_of(
                st.just(b""),
                st.sampled_from(INSERTED),
                st.binary(max_size=2),
                st.just(bytes(data[at:end]) * 2),
            )
        )
    return bytes(data)


def outcome_on_stream(pieces: Sequence[bytes]) -> list[object]:
    """Return the requests in what comes, each with its body as far as it came and whether there may be a further one; a refusal ends it."""
    wire, found = Wire(), list[object]()
    waiting = iter(pieces)

    def more() -> bool:
        piece = next(waiting, None)
        wire.receive(piece or b"") if piece else None
        return piece is not None

    try:
        while True:
            while (request := wire.head()) is None:
                if not more():
                    return found
            found += [request, body := bytearray()]
            while (piece := wire.piece()) != b"":
                body += piece or b""
                if piece is None and not more():
                    return found
            assert wire.answer(ServedAnswer(200, "a/b", b"c"), close=False).startswith(b"HTTP/1.1 200 ")
            following = wire.next()
            found.append(following is None)
            if following is None:
                return found
            wire = following
    except BadRequest as refusal:
        return [*found, refusal.status, wire.answer(ServedAnswer(refusal.status), close=True)[:9]]


@given(streams(), st.data())
def test_a_stream_gives_the_same_however_it_is_cut(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]
    assert outcome_on_stream(pieces) == outcome_on_stream([stream])
