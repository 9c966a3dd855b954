"""One request of HTTP/1.1 and its answer, read and written by ``h11``, within limits. Never any I/O, and no Trio.

``h11`` says what the bytes mean. This module adds what a client of strangers needs beside it: limits on the lines of a head, on
small chunks and on the bytes around chunks, and the refusal of a length beside chunks. Bytes are handed on in small steps while
lines may come, so that no single step can hold up the loop. How the bytes were split on their way changes nothing that is read.

Answers of the plainest form, with the head in one piece, in ASCII, and a body of a known length, are read without ``h11``: servers of
objects give nearly all answers so. Tests compare the two: what is read so reads ``h11`` to the same result, in eight times the time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

import attrs
import h11

from kmsconn.frozen import frozen
from kmsconn.transport.wrong_peers import protocol_of

MAX_PLAIN_HEAD = 4096
"""Bytes of a head that is read here."""
_LENGTH = re.compile(r"[0-9]{1,20}")
_WITHOUT_BODY = frozenset({204, 304})
_NAME = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_TEXT = rb"[\t\x20-\x7e]*"
_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9]{2})(?: " + _TEXT + rb")?\r\n((?:" + _NAME + rb":" + _TEXT + rb"\r\n){0,64})\r\n"
)


class HttpError(Exception):
    """The bytes are no whole answer that is accepted."""


@frozen
class HttpHead:
    """Status and headers; the names are in lower case, of repeated ones the last counts."""

    status: int
    headers: Mapping[str, str]


class PlainAnswer:
    """An answer of whose body ``left`` bytes are to come."""

    def __init__(self, head: HttpHead, left: int) -> None:
        self.head = head
        self.done = self.alone = self.reusable = not left
        """Whether it is whole; nothing came after it; nobody has ended the connection."""
        self.announced = self._left = left

    def receive(self, data: bytes) -> bytes:
        """Take what came behind the head, and return the bytes of the body in it."""
        body = data[: self._left]
        if self._left:
            self._left -= len(body)
            self.done = self.alone = self.reusable = not self._left
        if len(body) < len(data):
            self.alone = self.reusable = False
        return body

    def receive_end(self) -> None:
        """Take the end of the connection. Raises HttpError when it came too early."""
        self.reusable = False
        if self._left:
            come = f"received {self.announced - self._left} bytes, expected {self.announced}"
            raise HttpError(f"the connection ended within the body of the answer ({come})")


def read_plain_answer(method: str, data: bytes) -> tuple[PlainAnswer, bytes] | None:
    """Return the answer to a request that begins with these bytes, and the bytes behind its head; None where it is not plain.

    Each of its headers comes once, and none says anything about the connection.
    """
    found = _HEAD.match(data, 0, MAX_PLAIN_HEAD)
    if found is None or method == "CONNECT":
        return None
    status, lines = int(found[1]), [line.partition(":") for line in found[2].decode().split("\r\n")[:-1]]
    headers = {name.lower(): value.strip(" \t") for name, _, value in lines}
    if len(headers) < len(lines) or "transfer-encoding" in headers:
        return None
    if headers.get("connection", _KEEP_ALIVE).lower() != _KEEP_ALIVE:
        return None
    bodiless = method == "HEAD" or status in _WITHOUT_BODY
    length = headers.get("content-length", "0" if bodiless else "")
    if not _LENGTH.fullmatch(length):
        return None
    return PlainAnswer(HttpHead(status, headers), 0 if bodiless else int(length)), data[found.end() :]


_KEEP_ALIVE = "keep-alive"


__all__ = ["HttpAnswer", "HttpError", "HttpExchange", "HttpHead", "NoAnswer", "RequestHead", "make_request"]

MAX_HEAD = 32 * 1024
"""Bytes of one head, up to a ``HEAD_STEP`` more. Servers send below 8 KiB."""
MAX_LINES = 256
"""Lines of heads and trailers that may come before the step that ends them."""
HEAD_STEP, CHUNKED_STEP = 4096, 16 * 1024
"""Bytes that are read at once while a head or chunks are on their way; ``h11`` takes 1.5 us for a line and 6 for a chunk."""
SPARE_CHUNKS = 1024
"""Chunks of one body that may be of any size."""
LEAST_CHUNK = 64
"""Bytes in a chunk, on average, of what goes beyond those."""
SPARE_BYTES = 64 * 1024
"""Bytes that are no body; beyond them no more than in the body: extensions could make it endless (RFC 9112, 7.1.1)."""

REMEMBERED_FIELDS = 256
"""Sets of header fields of requests that are kept as bytes: one for each origin, and one for each length of what is posted."""

_TARGET = re.compile(r"[\x21-\x7e]+")
_VERSIONS = frozenset({b"1.0", b"1.1"})
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_QUOTATION = re.compile(r"[: (]*\(?(expected )?(bytearray\()?b['\"].*", re.DOTALL)


class NoAnswer(HttpError):  # noqa: N818 - what happened, for who may ask again
    """The connection ended before the first byte of an answer."""


@frozen
class RequestHead:
    """The head of a request; its bytes hold secrets, and so may target and fields."""

    method: str
    target: str = attrs.field(repr=False)
    fields: tuple[tuple[str, str], ...] = attrs.field(repr=False)
    data: bytes = attrs.field(repr=False)


def make_request(method: str, target: str, headers: Iterable[tuple[str, str]]) -> RequestHead:
    """Return the head of a request. Raises ValueError for a target or header that would not stay in its place."""
    fields = tuple(headers)
    try:
        lines = _written(method, fields)
    except (h11.LocalProtocolError, UnicodeEncodeError):  # whose texts hold the header, a password perhaps
        lines = b""
    if not lines or not _TARGET.fullmatch(target):
        raise ValueError("a header or the target of the request contains forbidden characters")
    return RequestHead(method, target, fields, f"{method} {target} HTTP/1.1\r\n".encode() + lines)


@lru_cache(REMEMBERED_FIELDS)
def _written(method: str, fields: tuple[tuple[str, str], ...]) -> bytes:
    """Return the lines behind the request line: most requests to an origin have the same."""
    head = h11.Connection(h11.CLIENT).send(h11.Request(method=method, target="/", headers=[*fields])) or b""
    return head.partition(b"\r\n")[2]


class HttpExchange:
    """A request and the answer to it: ``request`` goes out, the answer comes in, and the bytes of its body come out."""

    def __init__(self, asked: RequestHead, body: bytes = b"") -> None:
        self.request = asked.data + body
        """What to send. Holds secrets."""
        self._asked, self._body = asked, body
        self.answer: HttpAnswer | None = None
        """The answer, once a byte of it has come; the rest may be given to it."""

    def receive(self, data: bytes) -> bytes:
        """Take what came, and return the bytes of the body in it. Raises HttpError."""
        if not data:
            return b""
        if self.answer is None:
            plain = read_plain_answer(self._asked.method, data)
            self.answer, data = plain or (_AnyAnswer(self._asked, self._body), data)
        return self.answer.receive(data)

    def receive_end(self) -> None:
        """Take the end of the connection. Raises HttpError when it came too early."""
        if self.answer is None:
            raise NoAnswer("the connection ended without an answer")
        self.answer.receive_end()


class _AnyAnswer:
    """Any answer, read by ``h11``."""

    def __init__(self, asked: RequestHead, body: bytes) -> None:
        self.head: HttpHead | None = None
        self.done = False
        self._h11 = h11.Connection(h11.CLIENT, MAX_HEAD)
        self._step: int | None = HEAD_STEP
        self._is_first = True
        self._lines, self._chunks, self._received, self._given = 0, 0, 0, 0
        request = h11.Request(method=asked.method, target=asked.target, headers=[*asked.fields])
        for part in (request, *([h11.Data(body)] if body else []), h11.EndOfMessage()):
            self._h11.send(part)

    @property
    def announced(self) -> int | None:
        return None if self.head is None else announced(self.head.headers)

    @property
    def alone(self) -> bool:
        return self.done and not self._h11.trailing_data[0]

    @property
    def reusable(self) -> bool:
        return self.alone and self._h11.their_state is h11.DONE and not self._h11.trailing_data[1]

    def receive(self, data: bytes) -> bytes:
        if self._is_first and data[:1] != b"H":
            raise HttpError(f"the answer is {protocol_of(data) or 'no HTTP/1'}")
        self._is_first = False
        pieces: list[bytes] = []
        at = 0
        while at < len(data):
            end = at + (self._step or len(data))
            self._take(data[at:end], pieces)
            at = end
        # One piece for all: a peer that sends chunks of one byte makes nobody hold an object for each.
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def receive_end(self) -> None:
        if self.head is None:
            raise HttpError("the connection ended within the head of the answer")
        self._take(b"", [])

    def _take(self, data: bytes, pieces: list[bytes]) -> None:
        """Read on by one step, an empty one at the end of the connection."""
        given = self._given
        try:
            self._h11.receive_data(data)
            pieces.extend(self._read())
        except h11.RemoteProtocolError as error:
            raise HttpError(_told(error)) from None
        self._received += len(data)
        self._lines = 0 if self._given > given else self._lines + data.count(b"\n")
        if not self.done:
            self._judge_amounts()

    def _read(self) -> Iterator[bytes]:
        """Yield the bytes of the body in what was received, as far as it goes."""
        while not self.done:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                return
            if isinstance(event, h11.Data):
                yield self._counted(event)
            elif isinstance(event, h11.Response):
                self._begin(event)
            else:  # the end of the answer, or of what is HTTP; interim answers are passed over
                self.done = not isinstance(event, h11.InformationalResponse)

    def _counted(self, event: h11.Data) -> bytes:
        self._chunks += event.chunk_start
        if self._chunks > SPARE_CHUNKS + self._given // LEAST_CHUNK:
            raise HttpError(f"the body comes in chunks of less than {LEAST_CHUNK} bytes")
        self._given += len(event.data)
        return bytes(event.data)

    def _begin(self, response: h11.Response) -> None:
        names = {name for name, _ in response.headers}
        chunked = b"transfer-encoding" in names
        if response.http_version not in _VERSIONS:
            raise HttpError("the answer is no HTTP/1")
        if chunked and (b"content-length" in names or response.http_version == b"1.0"):
            raise HttpError("the answer has a length beside its chunks, or chunks in HTTP/1.0")
        self.head = _head_of(response)
        self._step = CHUNKED_STEP if chunked else None

    def _judge_amounts(self) -> None:
        if self._lines > MAX_LINES:
            raise HttpError(f"the head or the trailers of the answer have more than {MAX_LINES} lines")
        if self._received - self._given > SPARE_BYTES + self._given:
            raise HttpError("the body comes with more bytes around its chunks than in them")


def _told(error: h11.RemoteProtocolError) -> str:
    """Say what is wrong in the library's words, but without a byte of what the server sent."""
    text = _QUOTATION.sub("", str(error))
    if text == "Receive buffer too long":
        return f"the head of the answer, or a line between its chunks, is larger than {MAX_HEAD} bytes"
    return f"the answer is no HTTP/1.1: {text}"


def announced(headers: Mapping[str, str]) -> int | None:
    """Return how many bytes a body will have, if the server said so."""
    digits = headers.get("content-length", "").lstrip("0") or "0"
    known = "content-length" in headers and digits.isascii() and digits.isdigit()
    return int(digits[:20]) if known else None  # twenty digits are more than any cap


def _head_of(response: h11.Response) -> HttpHead:
    if any(_CONTROL.search(value) for _, value in response.headers):
        raise HttpError("a header of the answer has control characters")
    return HttpHead(
        response.status_code, {name.decode(): header_text(value) for name, value in response.headers}
    )


def header_text(value: bytes) -> str:
    """Return the text of a header: UTF-8, or bytes without a meaning (RFC 9110, 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


HttpAnswer = PlainAnswer | _AnyAnswer
"""What has come of an answer: its head, once that is whole, and whether it is ``done``, ``alone`` and the connection ``reusable``.

``announced``: how many bytes the body will have, if the server said so.
"""
