"""One request of HTTP/1.1 and its answer, read and written by ``h11``, within limits. Never any I/O, and no Trio.

``h11`` says what the bytes mean. This module adds what a client of strangers needs beside it: limits on the lines of a head, on
small chunks and on the bytes around chunks, and the refusal of a length beside chunks. Bytes are handed on in small steps while
lines may come, so that no single step can hold up the loop. How the bytes were split on their way changes nothing that is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import attrs
import h11

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

_VERSIONS = frozenset({b"1.0", b"1.1"})
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_QUOTATION = re.compile(r"[: (]*\(?(expected )?(bytearray\()?b['\"].*", re.DOTALL)


class HttpError(Exception):
    """The bytes are no whole answer that is accepted."""


class NoAnswer(HttpError):  # noqa: N818 - what happened, for who may ask again
    """The connection ended before the first byte of an answer."""


@attrs.frozen
class HttpHead:
    """Status and headers; the names are in lower case, of repeated ones the last counts."""

    status: int
    headers: Mapping[str, str]


def make_request(method: str, target: str, headers: Iterable[tuple[str, str]]) -> h11.Request:
    """Return the head of a request. Raises ValueError for a target or header that would not stay in its place."""
    try:
        return h11.Request(method=method, target=target, headers=list(headers))
    except (h11.LocalProtocolError, UnicodeEncodeError):  # whose texts hold the header, a password perhaps
        raise ValueError("a header or the target of the request contains forbidden characters") from None


class HttpExchange:
    """A request and the answer to it: ``request`` goes out, the answer comes in, and the bytes of its body come out."""

    def __init__(self, request: h11.Request, body: bytes = b"") -> None:
        self.head: HttpHead | None = None
        self.done = False
        """Whether the answer is whole."""
        self.begun = False
        """Whether a byte of an answer has come."""
        self._h11 = h11.Connection(h11.CLIENT, MAX_HEAD)
        self._step: int | None = HEAD_STEP
        self._lines, self._chunks, self._received, self._given = 0, 0, 0, 0
        parts = [request, *([h11.Data(body)] if body else []), h11.EndOfMessage()]
        self.request = b"".join(self._h11.send(part) or b"" for part in parts)
        """What to send. Holds secrets."""

    @property
    def alone(self) -> bool:
        """Whether the answer is whole and nothing came after it."""
        return self.done and not self._h11.trailing_data[0]

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request now: the answer is whole, nothing came after it, nobody closes."""
        return self.alone and self._h11.their_state is h11.DONE and not self._h11.trailing_data[1]

    def receive(self, data: bytes) -> bytes:
        """Take what came, and return the bytes of the body in it. Raises HttpError."""
        if not self.begun and data[:1] not in {b"", b"H"}:
            raise HttpError("the answer is no HTTP/1")
        self.begun = self.begun or bool(data)
        pieces: list[bytes] = []
        at = 0
        while at < len(data):
            end = at + (self._step or len(data))
            self._take(data[at:end], pieces)
            at = end
        # One piece for all: a peer that sends chunks of one byte makes nobody hold an object for each.
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def receive_end(self) -> None:
        """Take the end of the connection. Raises HttpError when it came too early."""
        if not self.begun:
            raise NoAnswer("the connection ended without an answer")
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


def _head_of(response: h11.Response) -> HttpHead:
    if any(_CONTROL.search(value) for _, value in response.headers):
        raise HttpError("a header of the answer has control characters")
    return HttpHead(response.status_code, {name.decode(): _text(value) for name, value in response.headers})


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")  # RFC 9110, 5.5: bytes without a meaning
