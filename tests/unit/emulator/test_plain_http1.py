"""What is read and written without h11 is what h11 reads and writes, and the rest is left to it."""

from __future__ import annotations

import h11
import pytest

from kmsconn.emulator.http import read_plain_request, write_plain_answer

PLAIN = b"GET /ct0/ab?x=1 HTTP/1.1\r\nHost: a:80\r\nUser-Agent: some one\r\n\r\n"


def by_h11(data: bytes) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Return a request as h11 reads it."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    headers = tuple((name.decode(), value.decode()) for name, value in event.headers)
    return event.method.decode(), event.target.decode(), headers


@pytest.mark.parametrize(
    "data", [PLAIN, PLAIN.replace(b"GET", b"HEAD"), PLAIN.replace(b"\r\n\r\n", b"\r\nX: a: b\r\n\r\n")]
)
def test_a_plain_request_is_read_as_h11_reads_it(data: bytes) -> None:
    found = read_plain_request(data)
    assert found is not None
    request, size = found
    assert (request.method, request.target, request.headers, size) == (*by_h11(data), len(data))


def test_what_follows_a_request_is_not_of_it() -> None:
    found = read_plain_request(PLAIN + PLAIN)
    assert found is not None
    assert found[1] == len(PLAIN)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PLAIN[:-1],
        PLAIN.replace(b"GET", b"POST"),
        PLAIN.replace(b"1.1", b"1.0"),
        PLAIN.replace(b"Host", b"Other"),
        PLAIN.replace(b"User-Agent", b"Host"),
        PLAIN.replace(b"\r\n", b"\n"),
        PLAIN.replace(b"some one", b" leading"),
        PLAIN.replace(b"some one", b"trailing "),
        PLAIN.replace(b"some one", "schön".encode()),
        PLAIN.replace(b"User-Agent:", b"User-Agent :"),
        PLAIN.replace(b"/ct0", b"http://a/ct0"),
        PLAIN.replace(b"some one", b"x" * 10_000),
        *(
            PLAIN.replace(b"User-Agent: some one", line)
            for line in (
                b"Connection: close", b"Content-Length: 0", b"Expect: 100-continue", b"Upgrade: a", b"Transfer-Encoding: chunked",
            )
        ),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_h11(data: bytes) -> None:
    assert read_plain_request(data) is None


def test_an_answer_is_written_as_h11_writes_it() -> None:
    headers = [("content-type", "text/plain"), ("x-amz-meta-Name", "a b")]
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(PLAIN)
    connection.next_event()
    theirs = connection.send(h11.Response(status_code=404, headers=[*headers, ("content-length", "5")]))
    assert write_plain_answer(404, headers, 5) == theirs


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (204, []),
        (304, []),
        (101, []),
        (200, [("Content-Length", "9")]),
        (200, [("transfer-encoding", "chunked")]),
        (200, [("connection", "close")]),
        (200, [("a", "b\r\nc: d")]),
        (200, [("a", " b")]),
        (200, [("a", "")]),
        (200, [("a", "ä")]),
    ],
)
def test_an_answer_that_is_not_plain_is_left_to_h11(status: int, headers: list[tuple[str, str]]) -> None:
    assert write_plain_answer(status, headers, 5) is None
