"""Requests and answers of one connection as bytes: what is a request, what is refused, and where a request ends (RFC 9112)."""

from __future__ import annotations

import pytest

from kmsconn.serving.wire import HEAD_BYTES, BadRequest, LiveAnswer, ServedAnswer, ServedRequest, Wire

HOST = b"host: x\r\n\r\n"
ANSWER = ServedAnswer(200, "text/plain", b"four")


def asked(data: bytes) -> ServedRequest | None:
    """Return the first request in what came."""
    wire = Wire()
    wire.receive(data)
    return wire.head()


def read(wire: Wire) -> tuple[str, bytes]:
    """Return path and body of the next request, which has come whole."""
    request = wire.head()
    assert request is not None
    pieces = list(iter(wire.piece, b""))
    return request.path, b"".join(piece for piece in pieces if piece is not None)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
def test_any_method_asks_for_the_path(method: str) -> None:
    found = asked(method.encode() + b" /liveness HTTP/1.1\r\n" + HOST)
    assert found == ServedRequest("/liveness", method, ((b"host", b"x"),))


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/metrics?name[]=up", "/metrics"),
        (b"http://node:9100/healthz", "/healthz"),
        (b"HTTP://node", "/"),
        (b"*", "*"),
    ],
)
def test_the_path_is_without_query_and_host(target: bytes, path: str) -> None:
    found = asked(b"GET " + target + b" HTTP/1.1\r\n" + HOST)
    assert found is not None
    assert found.path == path


def test_what_a_head_may_hold_never_shows() -> None:
    assert "secret" not in repr(asked(b"GET / HTTP/1.1\r\nauthorization: secret\r\n" + HOST))


def test_a_head_may_come_byte_by_byte() -> None:
    wire, found = Wire(), []
    for byte in b"GET /metrics HTTP/1.1\r\n" + HOST:
        wire.receive(bytes([byte]))
        found.append(wire.head())
    assert found[-1] is not None
    assert set(found[:-1]) == {None}


def test_the_answer_has_its_length_and_date_and_says_when_it_is_the_last() -> None:
    for close in (False, True):
        wire = Wire()
        wire.receive(b"GET / HTTP/1.1\r\n" + HOST)
        read(wire)
        head, _, body = wire.answer(ANSWER, close=close).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        assert lines.pop(b"date").endswith(b" GMT")
        assert lines.pop(b"connection", b"") == (b"close" if close else b"")
        assert lines == {b"content-type": b"text/plain", b"content-length": b"4"}
        assert (body, wire.next() is None) == (b"four", close)


def test_head_has_the_length_and_no_body() -> None:
    wire = Wire()
    wire.receive(b"HEAD / HTTP/1.1\r\n" + HOST)
    wire.head()
    head, _, body = wire.answer(ANSWER, close=True).partition(b"\r\n\r\n")
    assert b"content-length: 4" in head.lower()
    assert body == b""


REFUSED = {
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 505,
    b"GET / HTTP/1.2\r\n" + HOST: 505,
    b"GET / HTTP/0.9\r\n" + HOST: 505,
    b"CONNECT x:443 HTTP/1.1\r\n" + HOST: 501,
    b"POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n" + HOST: 400,
    b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n" + HOST: 400,
    b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n" + HOST: 400,
    b"POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n" + HOST: 501,
    b"POST / HTTP/1.1\r\ntransfer-encoding: chunked, chunked\r\n" + HOST: 501,
    b"POST / HTTP/1.1\r\ntransfer-encoding : chunked\r\n" + HOST: 400,
    b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n" + HOST: 400,
    b"POST / HTTP/1.1\r\ncontent-length: +1\r\n" + HOST: 400,
    b"POST / HTTP/1.1\r\ncontent-length: -1\r\n" + HOST: 400,
    b"POST / HTTP/1.1\r\ncontent-length: 0x1\r\n" + HOST: 400,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200: 400,
    b"GET / HTTP/1.1\r\n\r\n": 400,
    b"GET /\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nhost : x\r\n\r\n": 400,
    b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n": 400,
}


@pytest.mark.parametrize(("data", "status"), REFUSED.items(), ids=range(len(REFUSED)))
def test_what_is_no_request_is_refused(data: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as refused:
        asked(data)
    assert refused.value.status == status


def test_a_head_without_end_is_refused_once_it_is_too_large() -> None:
    wire = Wire()
    for _ in range(HEAD_BYTES // 1024):
        wire.receive(b"a" * 1024)
        assert wire.head() is None
    wire.receive(b"a")
    with pytest.raises(BadRequest) as refused:
        wire.head()
    assert refused.value.status == 431
    assert b"connection: close" in wire.answer(ServedAnswer(431), close=True).lower()


CHUNKS = b"2;ext=1\r\n{}\r\n0\r\ntrailer: y\r\n\r\n"


@pytest.mark.parametrize(
    "one",
    [
        b"POST / HTTP/1.1\r\ncontent-length: 2\r\n" + HOST + b"{}",
        b"POST / HTTP/1.1\r\ncontent-length: 2, 2\r\n" + HOST + b"{}",
        b"POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n" + HOST + CHUNKS,
    ],
)
def test_a_body_ends_where_it_says_and_the_next_request_begins_there(one: bytes) -> None:
    wire = Wire(one * 3)
    for _ in range(3):
        assert wire.ahead
        assert read(wire) == ("/", b"{}")
        assert wire.answer(ANSWER, close=False).startswith(b"HTTP/1.1 200 ")
        following = wire.next()
        assert following is not None
        wire = following
    assert not wire.ahead


def test_a_request_that_has_not_come_whole_is_the_last_one() -> None:
    wire = Wire(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n" + HOST + b"{")
    wire.head()
    wire.answer(ANSWER, close=False)
    assert wire.next() is None


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nconnection: close\r\n" + HOST,
        b"GET / HTTP/1.1\r\nconnection: Upgrade\r\nconnection: te, Close\r\n" + HOST,
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    ],
)
def test_who_wants_one_answer_gets_it_whatever_comes_behind(head: bytes) -> None:
    wire = Wire()
    wire.receive(head + b"more, that is no request")
    assert read(wire) == ("/", b"")
    sent = wire.answer(ANSWER, close=False)
    assert sent.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in sent.lower()
    assert wire.next() is None


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n", b"2\r\n{}xx0\r\n\r\n", b"-1\r\n", b"2\n{}\n0\r\n\r\n" + b" " * 30]
)
def test_a_body_that_is_none_is_refused(chunks: bytes) -> None:
    wire = Wire()
    wire.receive(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n" + HOST + chunks)
    with pytest.raises(BadRequest):
        read(wire)


def test_who_holds_its_body_back_is_told_to_send_it_once() -> None:
    wire = Wire()
    wire.receive(b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n" + HOST)
    wire.head()
    assert (wire.piece(), wire.holds_back) == (None, True)
    assert wire.proceed().startswith(b"HTTP/1.1 100 ")
    assert (wire.holds_back, wire.proceed()) == (False, b"")


def test_an_answer_without_an_end_comes_in_chunks_and_is_the_last() -> None:
    for version, chunked, piece in ((b"1.1", True, b"5\r\npiece\r\n"), (b"1.0", False, b"piece")):
        wire = Wire(b"GET / HTTP/" + version + b"\r\n" + HOST)
        read(wire)
        head = wire.begin(LiveAnswer("text/event-stream", _never, lambda: None))
        assert (b"transfer-encoding: chunked" in head.lower()) == chunked
        assert b"connection: close" in head.lower()
        assert wire.more(b"piece") == piece
        assert wire.answer(ANSWER, close=True) == b""


async def _never() -> bytes:
    raise AssertionError
