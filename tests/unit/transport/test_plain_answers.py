"""Which answers are plain, and that a plain one is read as far as it goes."""

from __future__ import annotations

import pytest

from kmsconn.transport.http11 import MAX_PLAIN_HEAD, HttpError, PlainAnswer, read_plain_answer

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 4\r\n"


def plain(data: bytes, method: str = "GET") -> tuple[PlainAnswer, bytes]:
    read = read_plain_answer(method, data)
    assert read is not None
    return read


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"Connection: Keep-Alive\r\n",
        b"X-Text: \xc3\xbc a\tb \t\r\n",
        b"X:\r\n" * 60,
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
        OK + LENGTH + b" folded: x\r\n\r\n",
        OK + LENGTH + b"X : 1\r\n\r\n",
        OK + LENGTH + b"X: 1\n\r\n",
        OK + LENGTH + b"X:\r\n" * 64 + b"\r\n",
        OK + LENGTH + b"X: " + b"a" * MAX_PLAIN_HEAD + b"\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\n",
        b"HTTP/1.1 103 Hints\r\n" + LENGTH + b"\r\n",
        b"HTTP/1.1 600 What\r\n" + LENGTH + b"\r\n",
    ],
)
def test_what_says_anything_else_is_not_plain(data: bytes) -> None:
    assert read_plain_answer("GET", data) is None


def test_the_answer_of_a_tunnel_is_not_plain() -> None:
    assert read_plain_answer("CONNECT", OK + LENGTH + b"\r\n") is None


def test_a_body_comes_in_pieces() -> None:
    answer, rest = plain(OK + LENGTH + b"\r\nb")
    assert (answer.receive(rest), answer.done, answer.reusable) == (b"b", False, False)
    assert (answer.receive(b"ody"), answer.done, answer.reusable) == (b"ody", True, True)


def test_what_comes_behind_the_body_is_left_and_noted() -> None:
    answer, rest = plain(OK + LENGTH + b"\r\nbodyx")
    assert (answer.receive(rest), answer.done, answer.alone) == (b"body", True, False)


def test_an_end_within_the_body_is_an_error() -> None:
    answer, rest = plain(OK + LENGTH + b"\r\nbo")
    answer.receive(rest)
    with pytest.raises(HttpError, match="received 2 bytes, expected 4"):
        answer.receive_end()


def test_after_the_end_the_connection_carries_nothing() -> None:
    answer, rest = plain(OK + LENGTH + b"\r\nbody")
    answer.receive(rest)
    answer.receive_end()
    assert (answer.done, answer.reusable) == (True, False)
