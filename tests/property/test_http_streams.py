"""What a client sends gives the same requests however it is cut, and nothing but a refusal is raised, whatever it sends."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from kmsconn.serving.wire import BadRequest, ServedAnswer, Wire

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


def outcome(pieces: Sequence[bytes]) -> list[object]:
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
    assert outcome(pieces) == outcome([stream])
