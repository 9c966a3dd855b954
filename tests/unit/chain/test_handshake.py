from __future__ import annotations

import base64

import pytest

from kmsconn.chain.handshake import Handshake, NoWebsocket
from kmsconn.net.urls import parse

NONCE = base64.b64decode("dGhlIHNhbXBsZSBub25jZQ==")  # RFC 6455, 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def opening(url: str = "ws://user:secret@node:8546/v3/a key?token=hidden") -> Handshake:
    return Handshake(parse(url.replace(" ", "%20")), NONCE)


def answer(status: str = "101 Switching Protocols", **changed: str | None) -> bytes:
    headers = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": ACCEPT,
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def test_the_request_has_all_that_a_server_needs() -> None:
    assert opening().request.decode().split("\r\n") == [
        "GET /v3/a%20key?token=hidden HTTP/1.1",
        "Host: node:8546",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "Authorization: Basic dXNlcjpzZWNyZXQ=",
        "",
        "",
    ]


def test_without_user_info_nobody_is_named() -> None:
    assert b"Authorization" not in opening("ws://node").request


def test_what_no_request_line_may_hold_is_encoded() -> None:
    assert opening('ws://node/a"b').request.startswith(b"GET /a%22b HTTP/1.1\r\n")


def test_what_stands_behind_the_answer_is_given() -> None:
    assert opening().receive(answer() + b"\x81\x00") == b"\x81\x00"


def test_the_answer_may_come_in_pieces() -> None:
    handshake, data = opening(), answer()
    found = [handshake.receive(data[at : at + 1]) for at in range(len(data))]
    assert found == [None] * (len(data) - 1) + [b""]


def test_names_of_protocols_are_read_in_any_case() -> None:
    assert opening().receive(answer(upgrade="WebSocket", connection="keep-alive, upgrade")) == b""


def test_an_interim_answer_is_passed_over() -> None:
    assert opening().receive(b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer()) == b""


@pytest.mark.parametrize("status", ["200 OK", "302 Found", "401 Unauthorized", "404 Not Found", "503 Busy"])
def test_another_status_is_told(status: str) -> None:
    with pytest.raises(NoWebsocket, match=f"no websocket, HTTP {status[:3]}"):
        opening().receive(answer(status))


@pytest.mark.parametrize(
    "changed",
    [
        {"upgrade": None},
        {"upgrade": "h2c"},
        {"upgrade": "websocket, h2c"},
        {"connection": None},
        {"connection": "close"},
        {"sec_websocket_accept": None},
        {"sec_websocket_accept": "dGhlIHNhbXBsZSBub25jZQ=="},
        {"sec_websocket_extensions": "permessage-deflate"},
        {"sec_websocket_protocol": "chat"},
    ],
)
def test_an_answer_that_does_not_fit_opens_nothing(changed: dict[str, str | None]) -> None:
    with pytest.raises(NoWebsocket):
        opening().receive(answer(**changed))


def test_http_1_0_switches_to_nothing() -> None:
    with pytest.raises(NoWebsocket):
        opening().receive(answer().replace(b"HTTP/1.1", b"HTTP/1.0"))
