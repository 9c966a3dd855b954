"""Reading one answer: what is taken, what is refused, when the connection may carry another request."""

from __future__ import annotations

import pytest

from kmsconn.net.http11 import (
    LEAST_CHUNK,
    MAX_FIELDS,
    MAX_HEAD,
    MAX_INTERIM,
    MAX_LINE,
    SPARE_CHUNKS,
    HttpError,
    NoAnswer,
    Reader,
    request_head,
)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(data: bytes, method: str = "GET") -> tuple[Reader, bytes]:
    reader = Reader(method)
    return reader, reader.receive(data)


def headers_of(data: bytes) -> dict[str, str]:
    reader, _ = read(data)
    assert reader.head is not None
    return dict(reader.head.headers)


def test_status_headers_and_a_body_of_a_length() -> None:
    reader, body = read(OK + b"Content-Length: 4\r\nX-Thing:  a b \t\r\n\r\nbody")
    assert reader.head is not None
    assert (reader.head.status, reader.head.headers) == (200, {"content-length": "4", "x-thing": "a b"})
    assert (body, reader.done, reader.reusable) == (b"body", True, True)


def test_a_piece_that_is_all_body_is_given_without_a_copy() -> None:
    reader, _ = read(OK + b"Content-Length: 10\r\n\r\n")
    piece = b"0123456789"
    assert reader.receive(piece) is piece


def test_a_piece_within_a_chunk_is_given_without_a_copy() -> None:
    reader, _ = read(CHUNKED + b"a\r\n")
    piece = b"01234567"
    assert reader.receive(piece) is piece


def test_chunks_extensions_and_trailers() -> None:
    reader, body = read(CHUNKED + b'4\r\nbody\r\nA ;x="y"\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n')
    assert (body, reader.done, reader.reusable) == (b"body0123456789", True, True)


def test_tiny_chunks_come_as_one_piece() -> None:
    """A peer that sends chunks of one byte makes nobody hold an object for each."""
    _, body = read(CHUNKED + b"1\r\nx\r\n" * 1000)
    assert body == b"x" * 1000


def test_without_a_length_the_body_lasts_until_the_end() -> None:
    reader, body = read(OK + b"\r\nbody")
    assert (body, reader.done) == (b"body", False)
    reader.receive_end()
    assert (reader.done, reader.reusable) == (True, False)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_some_statuses_have_no_body(status: bytes) -> None:
    reader, body = read(b"HTTP/1.1 " + status + b"\r\nContent-Length: 4\r\n\r\n")
    assert (body, reader.done, reader.reusable) == (b"", True, True)


def test_a_head_has_no_body_whatever_it_announces() -> None:
    reader, body = read(OK + b"Content-Length: 4\r\n\r\n", "HEAD")
    assert (body, reader.done, reader.reusable) == (b"", True, True)


def test_interim_answers_are_passed_over() -> None:
    reader, body = read(
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx"
    )
    assert reader.head is not None
    assert (reader.head.status, body, reader.reusable) == (200, b"x", True)


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (OK, True),
        (OK + b"Connection: Keep-Alive\r\n", True),
        (OK + b"Connection: close\r\n", False),
        (OK + b"Connection: x, Close\r\n", False),
        (OK + b"Connection: close\r\nConnection: x\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", False),
    ],
)
def test_the_connection_is_kept_unless_the_server_closes(head: bytes, kept: bool) -> None:
    assert read(head + b"Content-Length: 0\r\n\r\n")[0].reusable is kept


@pytest.mark.parametrize(
    "rest", [b"Content-Length: 1\r\n\r\nxy", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\ny"]
)
def test_after_bytes_that_nobody_asked_for_the_connection_is_not_kept(rest: bytes) -> None:
    reader, _ = read(OK + rest)
    assert (reader.done, reader.reusable) == (True, False)
    later, _ = read(OK + rest[:-1])
    assert later.reusable
    assert later.receive(b"y") == b""
    assert not later.reusable


def test_of_repeated_headers_the_last_counts() -> None:
    assert headers_of(OK + b"X: 1\r\nx: 2\r\n\r\n")["x"] == "2"


def test_header_bytes_are_utf_8_or_else_latin_1() -> None:
    assert headers_of(OK + "X: ü\r\n\r\n".encode())["x"] == "ü"
    assert headers_of(OK + "X: ü\r\n\r\n".encode("latin-1"))["x"] == "ü"


def test_lengths_that_agree_are_one() -> None:
    reader, _ = read(OK + b"Content-Length: 2, 2\r\nContent-Length: 2\r\n\r\nxy")
    assert reader.done


def test_a_status_line_needs_no_reason() -> None:
    assert read(b"HTTP/1.1 404\r\n\r\n")[0].head is not None


@pytest.mark.parametrize(
    "head",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"\r\n" + OK + b"\r\n",
        OK + b" folded: x\r\n\r\n",
        OK + b"X: 1\r\n 2\r\n\r\n",
        OK + b"X: 1\r\n\t2\r\n\r\n",
        OK + b"X : 1\r\n\r\n",
        OK + b": 1\r\n\r\n",
        OK + b"X\r\n\r\n",
        OK + b"X: a\0b\r\n\r\n",
        OK + b"X: a\nY: b\r\n\r\n",
        OK + b"X: a\rY: b\r\n\r\n",
        OK + b"Content-Length: x\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: +1\r\n\r\n",
        OK + b"Content-Length: 1_0\r\n\r\n",
        OK + b"Content-Length: \r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        OK + b"Content-Length: 1, 2\r\n\r\n",
        OK + "Content-Length: \u0661\r\n\r\n".encode(),
        OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: identity\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_a_head_that_can_be_read_in_two_ways_or_none_is_refused(head: bytes) -> None:
    with pytest.raises(HttpError):
        read(head)


@pytest.mark.parametrize(
    "chunks",
    [
        b"x\r\n",
        b"\r\n",
        b"-1\r\n",
        b"0x4\r\nbody\r\n",
        b" 4\r\nbody\r\n",
        b"4\nbody\r\n",
        b"4\r\nbody0\r\n",
        b"4\r\nbody\n0\r\n",
        b"1" * 17 + b"\r\n",
        b"4;" + b"x" * MAX_LINE,
        b"0\r\nno trailer\r\n",
        b"0\r\n folded\r\n",
        b"0\r\n" + b"X: 1\r\n" * (MAX_FIELDS + 1),
    ],
)
def test_malformed_chunks_are_refused(chunks: bytes) -> None:
    with pytest.raises(HttpError):
        read(CHUNKED + chunks + (b"\r\n" if len(chunks) < 20 else b""))


def test_a_head_may_be_as_large_as_the_limit_and_no_larger() -> None:
    filling = b"X: " + b"a" * (MAX_HEAD - len(OK) - len(b"X: "))
    assert headers_of(OK + filling + b"\r\n\r\n")
    for end in (b"a\r\n\r\n", b"aaaa"):
        with pytest.raises(HttpError, match="larger"):
            read(OK + filling + end)


def test_a_body_in_chunks_of_one_byte_ends() -> None:
    """64 KiB of them take 27 ms of the loop; a server that means it sends a few small ones only."""
    assert read(CHUNKED + b"1\r\nx\r\n" * SPARE_CHUNKS + b"0\r\n\r\n")[1] == b"x" * SPARE_CHUNKS
    with pytest.raises(HttpError, match="chunks of less than"):
        read(CHUNKED + b"1\r\nx\r\n" * 2 * SPARE_CHUNKS)


def test_a_body_that_is_mostly_extensions_ends() -> None:
    """Seen to take a minute and half of the loop until the deadline came: 32 bytes of body in each 4 KB."""
    chunk = b"20;" + b"e" * 4000 + b"\r\n" + b"x" * 32 + b"\r\n"
    assert len(read(CHUNKED + chunk * 10)[1]) == 320
    with pytest.raises(HttpError, match="around its chunks"):
        read(CHUNKED + chunk * 30)


def test_any_number_of_chunks_of_a_fair_size_is_read() -> None:
    chunk = b"%x\r\n%s\r\n" % (LEAST_CHUNK, b"x" * LEAST_CHUNK)
    assert len(read(CHUNKED + chunk * 5000 + b"0\r\n\r\n")[1]) == 5000 * LEAST_CHUNK


def test_a_line_between_chunks_may_be_as_long_as_the_limit() -> None:
    assert read(CHUNKED + b"4;" + b"x" * (MAX_LINE - 2) + b"\r\nbody")[1] == b"body"
    with pytest.raises(HttpError, match="longer"):
        read(CHUNKED + b"4;" + b"x" * (MAX_LINE - 1) + b"\r\nbody")


def test_headers_are_counted() -> None:
    assert headers_of(OK + b"X: 1\r\n" * MAX_FIELDS + b"\r\n")
    with pytest.raises(HttpError, match="headers"):
        read(OK + b"X: 1\r\n" * (MAX_FIELDS + 1) + b"\r\n")


def test_interim_answers_are_counted() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert read(interim * MAX_INTERIM + OK + b"\r\n")[0].head is not None
    with pytest.raises(HttpError, match="interim"):
        read(interim * (MAX_INTERIM + 1))


@pytest.mark.parametrize(
    "data", [b"H", OK, OK + b"Content-Length: 2\r\n\r\nx", CHUNKED, CHUNKED + b"1\r\nx\r\n0\r\n"]
)
def test_an_end_that_comes_early_is_an_error(data: bytes) -> None:
    reader, _ = read(data)
    with pytest.raises(HttpError) as caught:
        reader.receive_end()
    assert not isinstance(caught.value, NoAnswer)


def test_an_end_before_any_byte_is_no_answer() -> None:
    with pytest.raises(NoAnswer):
        Reader("GET").receive_end()


SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: thing\r\nConnection: keep-alive, Upgrade\r\n\r\n"


def test_what_comes_after_a_switch_of_protocols_is_given_as_it_is() -> None:
    reader = Reader("GET", upgrade="thing")
    assert reader.receive(SWITCHED + b"HTTP/1.1") == b"HTTP/1.1"
    assert reader.receive(b"\r\n\r\n") == b"\r\n\r\n"
    assert reader.head is not None
    assert (reader.head.status, reader.reusable) == (101, False)


def test_a_refused_switch_is_an_answer_like_any_other() -> None:
    reader = Reader("GET", upgrade="thing")
    assert reader.receive(b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno") == b"no"
    assert reader.reusable


@pytest.mark.parametrize(
    ("upgrade", "head"),
    [
        (None, SWITCHED),
        ("other", SWITCHED),
        ("thing", SWITCHED.replace(b"/1.1", b"/1.0")),
        ("thing", SWITCHED.replace(b", Upgrade", b"")),
        ("thing", SWITCHED.replace(b"thing", b"thing, other")),
    ],
)
def test_a_switch_that_was_not_asked_for_is_refused(upgrade: str | None, head: bytes) -> None:
    with pytest.raises(HttpError, match="unasked"):
        Reader("GET", upgrade=upgrade).receive(head)


def test_the_head_of_a_request() -> None:
    head = request_head("GET", "/k?x=%20", [("Host", "a"), ("X", "1 2")])
    assert head == b"GET /k?x=%20 HTTP/1.1\r\nHost: a\r\nX: 1 2\r\n\r\n"


@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: y", "/\u00fc", "/\0"])
def test_a_target_that_would_not_stay_in_its_place_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="target"):
        request_head("GET", target, [])


@pytest.mark.parametrize(
    "field", [("X", "a\r\nY: b"), ("X\r\nY", "b"), ("X Y", "b"), ("", "b"), ("X", "\u2028")]
)
def test_a_header_that_would_not_stay_in_its_line_is_refused(field: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"header|ascii"):
        request_head("GET", "/", [field])


def test_lengths_that_differ_are_refused_where_no_body_follows_too() -> None:
    with pytest.raises(HttpError):
        Reader("GET").receive(b"HTTP/1.1 204\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\n")
