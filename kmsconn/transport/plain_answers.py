"""The client side of HTTP/1.1 of the plainest form: answers with the head in one piece, a body of a known length. No I/O, reads no others.

Servers of objects give nearly all answers so. ``http11`` has ``h11`` read every other one, and tests compare the two: what is read here
reads ``h11`` to the same result, in eight times the time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

MAX_PLAIN_HEAD = 4096
"""Bytes of a head that is read here."""
_LENGTH = re.compile(r"[0-9]{1,20}")
_WITHOUT_BODY = frozenset({204, 304})
_NAME = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9]{2})(?: " + _TEXT + rb")?\r\n((?:" + _NAME + rb":" + _TEXT + rb"\r\n){0,64})\r\n"
)


class HttpError(Exception):
    """The bytes are no whole answer that is accepted."""


@attrs.frozen
class HttpHead:
    """Status and headers; the names are in lower case, of repeated ones the last counts."""

    status: int
    headers: Mapping[str, str]


def header_text(value: bytes) -> str:
    """Return the text of a header: UTF-8, or bytes without a meaning (RFC 9110, 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class PlainAnswer:
    """An answer of whose body ``left`` bytes are to come."""

    def __init__(self, head: HttpHead, left: int) -> None:
        self.head = head
        self._length = self._left = left
        self._has_more = self._has_ended = False

    @property
    def done(self) -> bool:
        """Whether the answer is whole."""
        return not self._left

    @property
    def alone(self) -> bool:
        """Whether the answer is whole and nothing came after it."""
        return not self._left and not self._has_more

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request now."""
        return self.alone and not self._has_ended

    def receive(self, data: bytes) -> bytes:
        """Take what came behind the head, and return the bytes of the body in it."""
        body = data[: self._left]
        self._has_more = self._has_more or len(data) > self._left
        self._left -= len(body)
        return body

    def receive_end(self) -> None:
        """Take the end of the connection. Raises HttpError when it came too early."""
        self._has_ended = True
        if self._left:
            come = f"received {self._length - self._left} bytes, expected {self._length}"
            raise HttpError(f"the connection ended within the body of the answer ({come})")


def read_plain_answer(method: str, data: bytes) -> tuple[PlainAnswer, bytes] | None:
    """Return the answer to a request that begins with these bytes, and the bytes behind its head; None where it is not plain."""
    found = _HEAD.match(data, 0, MAX_PLAIN_HEAD)
    if found is None or method == "CONNECT":
        return None
    status, headers = int(found[1]), _headers(found[2])
    if headers is None:
        return None
    bodiless = method == "HEAD" or status in _WITHOUT_BODY
    length = headers.get("content-length", "0" if bodiless else "")
    if not _LENGTH.fullmatch(length):
        return None
    return PlainAnswer(HttpHead(status, headers), 0 if bodiless else int(length)), data[found.end() :]


def _headers(lines: bytes) -> dict[str, str] | None:
    """Return the headers in such lines; None where they say something about the connection, or how long the body is but once."""
    headers: dict[str, str] = {}
    for line in lines.split(b"\r\n")[:-1]:
        raw_name, _, value = line.partition(b":")
        name = raw_name.decode().lower()
        if name in _OF_LENGTH and (name in headers or name != "content-length"):
            return None
        headers[name] = header_text(value.strip(b" \t"))
    return headers if headers.get("connection", _KEEP_ALIVE).lower() == _KEEP_ALIVE else None


_KEEP_ALIVE = "keep-alive"
_OF_LENGTH = frozenset({"content-length", "transfer-encoding"})
