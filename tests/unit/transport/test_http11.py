"""What stands around h11: limits, refusals, when the connection may carry another request, and that no error quotes a peer."""

from __future__ import annotations

import pytest

from kmsconn.transport.http11 import (
    CHUNKED_STEP,
    HEAD_STEP,
    LEAST_CHUNK,
    MAX_HEAD,
    MAX_LINES,
    MAX_PLAIN_HEAD,
    SPARE_CHUNKS,
    HttpAnswer,
    HttpError,
    HttpExchange,
    NoAnswer,
    PlainAnswer,
    make_request,
    read_plain_answer,
)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def exchange(method: str = "GET") -> HttpExchange:
    return HttpExchange(make_request(method, "/", [("Host", "a")]))


def read(data: bytes, method: str = "GET") -> tuple[HttpAnswer, bytes]:
    reader = exchange(method)
    body = reader.receive(data)
    assert reader.answer is not None
    return reader.answer, body


def headers_of(data: bytes) -> dict[str, str]:
    reader, _ = read(data)
    assert reader.head is not None
    return dict(reader.head.headers)


LENGTH = b"Content-Length: 4\r\n"

# Method and bytes → the status, and the body; nothing is left, and the connection may carry another request.
WHOLE: dict[str, tuple[str, bytes, int, bytes]] = {
    "a body of a length": ("GET", OK + LENGTH + b"\r\nbody", 200, b"body"),
    "lengths that agree": ("GET", OK + b"Content-Length: 2, 2\r\nContent-Length: 2\r\n\r\nxy", 200, b"xy"),
    "chunks, extensions and trailers": (
        "GET", CHUNKED + b'4\r\nbody\r\nA;x="y"\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n', 200, b"body0123456789",
    ),
    "a status that has no body": ("GET", b"HTTP/1.1 204 No Content\r\n" + LENGTH + b"\r\n", 204, b""),
    "another one": ("GET", b"HTTP/1.1 304 Not Modified\r\n" + LENGTH + b"\r\n", 304, b""),
    "the answer to HEAD": ("HEAD", OK + LENGTH + b"\r\n", 200, b""),
    "interim answers": (
        "GET",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK + LENGTH + b"\r\nbody", 200, b"body",
    ),
    "a status line without a reason": ("GET", b"HTTP/1.1 404\r\n" + LENGTH + b"\r\nbody", 404, b"body"),
}  # fmt: skip


@pytest.mark.parametrize("case", WHOLE.values(), ids=WHOLE)
def test_a_whole_answer_is_read(case: tuple[str, bytes, int, bytes]) -> None:
    method, data, status, expected = case
    reader, body = read(data, method)
    assert reader.head is not None
    assert (reader.head.status, body) == (status, expected)
    assert (reader.done, reader.reusable) == (True, True)


def test_tiny_chunks_come_as_one_piece() -> None:
    """A peer that sends chunks of one byte makes nobody hold an object for each."""
    _, body = read(CHUNKED + b"1\r\nx\r\n" * 1000)
    assert body == b"x" * 1000


def test_without_a_length_the_body_lasts_until_the_end() -> None:
    reader, body = read(OK + b"\r\nbody")
    assert (body, reader.done) == (b"body", False)
    reader.receive_end()
    assert (reader.done, reader.reusable) == (True, False)


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


def test_of_repeated_headers_the_last_counts_and_bytes_are_utf_8_or_else_latin_1() -> None:
    assert headers_of(OK + b"X-Thing:  a b \t\r\n\r\n") == {"x-thing": "a b"}
    assert headers_of(OK + b"X: 1\r\nx: 2\r\n\r\n")["x"] == "2"
    assert headers_of(OK + "X: ü\r\n\r\n".encode())["x"] == "ü"
    assert headers_of(OK + "X: ü\r\n\r\n".encode("latin-1"))["x"] == "ü"


@pytest.mark.parametrize(
    "head",
    [
        b"SSH-2.0-x\r\n",
        b"\r\n" + OK + b"\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: thing\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 204\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        OK + b" folded: x\r\n\r\n",
        OK + b"X : 1\r\n\r\n",
        OK + b": 1\r\n\r\n",
        OK + b"X\r\n\r\n",
        OK + b"X: a\0b\r\n\r\n",
        OK + b"X: a\rY: b\r\n\r\n",
        OK + b"X: a\x1b[31m\r\n\r\n",
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
def test_a_head_that_is_none_or_has_two_lengths_is_refused(head: bytes) -> None:
    with pytest.raises(HttpError):
        read(head)


def test_malformed_chunks_are_refused() -> None:
    for chunks in (b"x\r\n", b"-1\r\n", b"4\r\nbody0\r\n", b"0\r\nno trailer\r\n\r\n"):
        with pytest.raises(HttpError, match=r"no HTTP/1\.1"):
            read(CHUNKED + chunks)


def test_a_head_may_be_as_large_as_the_limit_and_not_much_larger() -> None:
    filling = b"X: " + b"a" * (MAX_HEAD - len(OK) - len(b"X: "))
    assert headers_of(OK + filling + b"\r\n\r\n")
    for end in (b"a" * HEAD_STEP + b"\r\n\r\n", b"a" * HEAD_STEP):
        with pytest.raises(HttpError, match="larger"):
            read(OK + filling + end)


def test_a_body_in_chunks_of_one_byte_ends() -> None:
    """64 KiB of them would take 65 ms of the loop; a server that means it sends a few small ones only."""
    assert read(CHUNKED + b"1\r\nx\r\n" * SPARE_CHUNKS + b"0\r\n\r\n")[1] == b"x" * SPARE_CHUNKS
    with pytest.raises(HttpError, match="chunks of less than"):
        read(CHUNKED + b"1\r\nx\r\n" * (SPARE_CHUNKS + LEAST_CHUNK))


def test_a_body_that_is_mostly_extensions_ends() -> None:
    """Seen to take a minute and half of the loop until the deadline came: few bytes of body in each 4 KB."""
    chunk = b"40;" + b"e" * 4000 + b"\r\n" + b"x" * 64 + b"\r\n"
    assert len(read(CHUNKED + chunk * 10)[1]) == 640
    with pytest.raises(HttpError, match="around its chunks"):
        read(CHUNKED + chunk * 30)


def test_any_number_of_chunks_of_a_fair_size_is_read() -> None:
    chunk = b"%x\r\n%s\r\n" % (LEAST_CHUNK, b"x" * LEAST_CHUNK)
    assert len(read(CHUNKED + chunk * 5000 + b"0\r\n\r\n")[1]) == 5000 * LEAST_CHUNK


def test_a_line_between_chunks_has_a_limit() -> None:
    assert read(CHUNKED + b"4;" + b"x" * 4000 + b"\r\nbody")[1] == b"body"
    with pytest.raises(HttpError, match="larger"):
        read(CHUNKED + b"4;" + b"x" * (MAX_HEAD + CHUNKED_STEP))


@pytest.mark.parametrize("before", [OK, CHUNKED + b"0\r\n"])
def test_lines_of_heads_and_trailers_are_counted(before: bytes) -> None:
    """21,000 headers in 64 KiB would take 32 ms of the loop."""
    assert read(before + b"X: 1\r\n" * (MAX_LINES - 5) + b"\r\n")[0].head is not None
    with pytest.raises(HttpError, match="lines"):
        read(before + b"a:\n" * 20_000)


def test_interim_answers_are_counted_by_their_lines() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert read(interim * 16 + OK + b"\r\n")[0].head is not None
    with pytest.raises(HttpError, match="lines"):
        read(interim * 1000)


def test_lines_between_chunks_that_come_apart_are_not_summed_up() -> None:
    reader, _ = read(CHUNKED)
    for _ in range(MAX_LINES):
        assert reader.receive(b"64\r\n") == b""
        assert reader.receive(b"x" * 0x64) == b"x" * 0x64
        assert reader.receive(b"\r\n") == b""


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
        exchange().receive_end()


@pytest.mark.parametrize(
    "data",
    [
        OK + b"no header secret\r\n\r\n",
        b"HTTP/1.1 secret\r\n\r\n",
        CHUNKED + b"secret\r\n",
        CHUNKED + b"4\r\nbodysecret",
        CHUNKED + b"0\r\nsecret\r\n\r\n",
    ],
)
def test_no_error_quotes_what_the_server_sent(data: bytes) -> None:
    with pytest.raises(HttpError) as refused:
        read(data)
    assert "secret" not in str(refused.value)
    assert "b'" not in str(refused.value)


def test_the_bytes_of_a_request() -> None:
    request = make_request("POST", "/k?x=%20", [("Host", "a"), ("X", "1 2"), ("Content-Length", "2")])
    written = HttpExchange(request, b"{}").request
    assert written == b"POST /k?x=%20 HTTP/1.1\r\nHost: a\r\nX: 1 2\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: y", "/\u00fc", "/\0"])
def test_a_target_that_would_not_stay_in_its_place_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="target"):
        make_request("GET", target, [("Host", "a")])


@pytest.mark.parametrize(
    "field", [("X", "secret\r\nY: b"), ("X\r\nY", "b"), ("X Y", "b"), ("", "b"), ("X", "\u2028")]
)
def test_a_header_that_would_not_stay_in_its_line_is_refused(field: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="header") as refused:
        make_request("GET", "/", [("Host", "a"), field])
    assert "secret" not in str(refused.value)


def plain(data: bytes, method: str = "GET") -> tuple[PlainAnswer, bytes]:
    read = read_plain_answer(method, data)
    assert read is not None
    return read


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"Connection: Keep-Alive\r\n",
        b"X-Text: u a\tb \t\r\n",
        b"".join(b"X-%d:\r\n" % n for n in range(60)),
    ],
)
def test_an_answer_with_one_length_is_plain(lines: bytes) -> None:
    answer, rest = plain(OK + LENGTH + lines + b"\r\nbody")
    assert (answer.head.status, answer.receive(rest), answer.reusable) == (200, b"body", True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        OK,
        OK + LENGTH,
        OK + b"\r\n",
        OK + LENGTH + LENGTH + b"\r\n",
        OK + b"Content-Length: 4, 4\r\n\r\n",
        OK + b"Content-Length: +4\r\n\r\n",
        OK + "Content-Length: \u0664\r\n\r\n".encode(),
        OK + b"Content-Length: " + b"0" * 21 + b"\r\n\r\n",
        OK + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n",
        OK + LENGTH + b"Connection: close\r\n\r\n",
        OK + LENGTH + b"Connection: keep-alive, x\r\n\r\n",
        OK + LENGTH + b"X: a\x1bb\r\n\r\n",
        OK + LENGTH + b"X: \xc3\xbc\r\n\r\n",
        OK + LENGTH + b" folded: x\r\n\r\n",
        OK + LENGTH + b"X : 1\r\n\r\n",
        OK + LENGTH + b"X: 1\n\r\n",
        OK + LENGTH + b"".join(b"X-%d:\r\n" % n for n in range(64)) + b"\r\n",
        OK + LENGTH + b"X: 1\r\nx: 2\r\n\r\n",
        OK + LENGTH + b"X: " + b"a" * MAX_PLAIN_HEAD + b"\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\n",
        b"HTTP/1.1 103 Hints\r\n" + LENGTH + b"\r\n",
        b"HTTP/1.1 600 What\r\n" + LENGTH + b"\r\n",
    ],
)
def test_what_says_anything_else_is_not_plain(data: bytes) -> None:
    assert read_plain_answer("GET", data) is None
    assert read_plain_answer("CONNECT", OK + LENGTH + b"\r\n") is None


def test_a_plain_body_comes_in_pieces_until_its_end() -> None:
    answer, rest = plain(OK + LENGTH + b"\r\nbo")
    assert (answer.receive(rest), answer.done, answer.reusable) == (b"bo", False, False)
    with pytest.raises(HttpError, match="received 2 bytes, expected 4"):
        answer.receive_end()
    answer, rest = plain(OK + LENGTH + b"\r\nb")
    answer.receive(rest)
    assert (answer.receive(b"ody"), answer.done, answer.reusable) == (b"ody", True, True)
    answer.receive_end()
    assert (answer.done, answer.reusable) == (True, False)


def test_what_comes_behind_the_body_is_left_and_noted() -> None:
    answer, rest = plain(OK + LENGTH + b"\r\nbodyx")
    assert (answer.receive(rest), answer.done, answer.alone) == (b"body", True, False)
