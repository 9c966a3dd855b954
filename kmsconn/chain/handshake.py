"""The opening of a websocket as data: the client's request, and whether the server's answer is one to it (RFC 6455, 4). No I/O."""

from __future__ import annotations

import base64
import hashlib

from kmsconn.net.http11 import Head, HttpError, Reader, request_head
from kmsconn.net.urls import Url

SWITCHING = 101
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_UNASKED = ("sec-websocket-extensions", "sec-websocket-protocol")


class NoWebsocket(Exception):  # noqa: N818 - what was found
    """The server's answer opens no websocket."""


class Handshake:
    """One opening. ``nonce``: sixteen random bytes, new for each."""

    def __init__(self, url: Url, nonce: bytes) -> None:
        self._key = base64.b64encode(nonce)
        self._url = url
        self._reader = Reader("GET", upgrade="websocket")

    @property
    def request(self) -> bytes:
        """What to send. Holds the URL's secrets."""
        headers = {
            "Host": self._url.authority,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": self._key.decode(),
            "Sec-WebSocket-Version": "13",
            **({"Authorization": self._url.authorization} if self._url.authorization else {}),
        }
        return request_head("GET", self._url.request_target, headers.items())

    def receive(self, data: bytes) -> bytes | None:
        """Take what came, and return what stands behind the answer's head; None while that has not ended.

        Raises NoWebsocket.
        """
        try:
            behind = self._reader.receive(data)
        except HttpError as error:
            raise NoWebsocket(str(error)) from error
        if self._reader.head is None:
            return None
        self._judge(self._reader.head)
        return behind

    def _judge(self, head: Head) -> None:
        if head.status != SWITCHING:
            raise NoWebsocket(f"no websocket, HTTP {head.status}")
        digest = hashlib.sha1(self._key + _MAGIC, usedforsecurity=False).digest()
        if head.headers.get("sec-websocket-accept") != base64.b64encode(digest).decode():
            raise NoWebsocket("the answer is to another opening of a websocket")
        if any(name in head.headers for name in _UNASKED):
            raise NoWebsocket("the server uses a websocket extension or protocol that was not asked for")
