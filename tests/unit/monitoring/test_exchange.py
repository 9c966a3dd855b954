"""Requests and answers of the monitoring port as bytes."""

from __future__ import annotations

import pytest

from kmsconn.monitoring.exchange import MAX_HEAD, BadRequest, Exchange, ProbeAnswer

HOST = b"host: x\r\n\r\n"
ANSWER = ProbeAnswer(200, "text/plain", b"four")


def asked(data: bytes) -> str | None:
    return Exchange().receive(data)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS"])
def test_any_method_asks_for_the_path(method: bytes) -> None:
    assert asked(method + b" /liveness HTTP/1.1\r\n" + HOST) == "/liveness"


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
    assert asked(b"GET " + target + b" HTTP/1.1\r\n" + HOST) == path


def test_a_request_of_http_1_0_is_answered() -> None:
    assert asked(b"GET /metrics HTTP/1.0\r\n\r\n") == "/metrics"


def test_a_head_may_come_byte_by_byte() -> None:
    exchange = Exchange()
    request = b"GET /metrics HTTP/1.1\r\n" + HOST
    assert [exchange.receive(bytes([byte])) for byte in request] == [None] * (len(request) - 1) + ["/metrics"]


def test_the_answer_has_its_length_and_closes() -> None:
    exchange = Exchange()
    exchange.receive(b"GET / HTTP/1.1\r\n" + HOST)
    head, _, body = exchange.answer(ANSWER).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert head.lower().split(b"\r\n")[1:] == [
        b"content-type: text/plain",
        b"content-length: 4",
        b"connection: close",
    ]
    assert body == b"four"


def test_head_has_the_length_and_no_body() -> None:
    exchange = Exchange()
    exchange.receive(b"HEAD / HTTP/1.1\r\n" + HOST)
    head, _, body = exchange.answer(ANSWER).partition(b"\r\n\r\n")
    assert b"content-length: 4" in head.lower()
    assert body == b""


@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n",
        b"",
    ],
    ids=range(10),
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        asked(data)


def test_a_head_without_end_is_refused_once_it_is_too_large() -> None:
    exchange = Exchange()
    for _ in range(MAX_HEAD // 1024):
        assert exchange.receive(b"a" * 1024) is None
    with pytest.raises(BadRequest) as refused:
        exchange.receive(b"a")
    assert refused.value.status in {400, 431}
    assert b"connection: close" in exchange.answer(ProbeAnswer(431, "text/plain", b"")).lower()


def test_what_is_pipelined_is_never_read_as_a_second_request() -> None:
    exchange = Exchange()
    assert exchange.receive((b"GET /liveness HTTP/1.1\r\n" + HOST) * 100) == "/liveness"
    assert exchange.answer(ANSWER).count(b"HTTP/1.1 200") == 1


def test_a_client_that_leaves_at_once_gets_nothing() -> None:
    exchange = Exchange()
    with pytest.raises(BadRequest):
        exchange.receive(b"")
    assert exchange.answer(ANSWER) == b""
