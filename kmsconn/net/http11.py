"""HTTP/1.1 answers out of bytes, and the heads of requests into bytes (RFC 9112). Never any I/O, and no Trio.

The rules: an answer that two readers could take apart differently is refused, not repaired. Lines end with CRLF, no header goes on
in a second line, lengths agree, a transfer coding is ``chunked`` alone and stands beside no length. Heads, chunk lines, trailers and
the number of interim answers have limits. How the bytes were split on their way changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import attrs

MAX_HEAD = 32 * 1024
"""Bytes of one head. Servers send below 8 KiB."""
MAX_FIELDS = 256
"""Headers of one answer, and trailers too."""
MAX_LINE = 4096
"""Bytes of a line between chunks."""
SPARE_CHUNKS = 1024
"""Chunks of one body that may be of any size; 64 KiB of chunks of one byte would take 27 ms of the loop, again and again."""
LEAST_CHUNK = 32
"""Bytes in a chunk, on average, of what goes beyond those."""
SPARE_LINES = 64 * 1024
"""Bytes of the lines between chunks; beyond them no more than in the chunks: extensions could make a body endless (RFC 9112, 7.1.1)."""
MAX_INTERIM = 16
"""Interim answers (1xx) before the real one."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*+"
_LINE_OF_FIELD = _TOKEN + rb":" + _TEXT
_FIELD = re.compile(_LINE_OF_FIELD)
_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: " + _TEXT + rb")?\r\n((?:" + _LINE_OF_FIELD + rb"\r\n)*+)"
)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*+(?:;" + _TEXT + rb")?")
_LENGTH = re.compile(r"[0-9]{1,20}")
_TARGET = re.compile(r"[!$&'()*+,;=:@/?A-Za-z0-9._~\[\]%-]*+")
_START, _LINE_END, _HEAD_END = b"HTTP/1.", b"\r\n", b"\r\n\r\n"
_FINAL, _SWITCHING = 200, 101
_WITHOUT_BODY = frozenset({204, 304})

Fields = list[tuple[str, str]]


class HttpError(Exception):
    """The bytes are no whole answer that can be read in only one way."""


class NoAnswer(HttpError):  # noqa: N818 - what happened, for who may ask again
    """The connection ended before the first byte of an answer."""


@attrs.frozen
class Head:
    """Status and headers; the names are in lower case, of repeated ones the last counts."""

    status: int
    headers: Mapping[str, str]


def request_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the head of a request. Raises ValueError for a target or header that would not stay in its place."""
    lines = [f"{name}: {value}".encode("ascii") for name, value in headers]
    if not _TARGET.fullmatch(target) or not all(map(_FIELD.fullmatch, lines)):
        raise ValueError("a header or the target of the request holds what must not be in it")
    return _LINE_END.join([f"{method} {target} HTTP/1.1".encode(), *lines, b"", b""])


class Reader:
    """Reads the one answer to a request: bytes go in, the bytes of the body come out."""

    def __init__(self, method: str, *, upgrade: str | None = None) -> None:
        """Await an answer to ``method``; with ``upgrade``, 101 is one, and all that comes after its head is its body."""
        self.head: Head | None = None
        self.begun = False
        """Whether a byte of an answer has come."""
        self._method, self._upgrade, self._text, self._interim = method, upgrade, b"", 0
        self._keeps, self._excess = False, False
        self._body: _Body = _Sized(0)

    @property
    def done(self) -> bool:
        """Whether the answer is whole."""
        return self.head is not None and self._body.done

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request now: the answer is whole, nothing came after it, nobody closes."""
        return self._keeps and self.alone

    @property
    def alone(self) -> bool:
        """Whether the answer is whole and nothing came after it."""
        return self.done and not self._excess

    def receive(self, data: bytes) -> bytes:
        """Take what came, and return the bytes of the body in it; as they are, where they are no more than that.

        Raises HttpError.
        """
        self.begun = self.begun or bool(data)
        if self.head is None:
            data = self._take_head(data)
        if self._body.done:
            self._excess = self._excess or bool(data)
            return b""
        piece, excess = self._body.take(data)
        self._excess = excess
        return piece

    def receive_end(self) -> None:
        """Take the end of the connection. Raises HttpError when it came too early."""
        if not self.begun:
            raise NoAnswer("the connection ended without an answer")
        if self.head is None:
            raise HttpError("the connection ended within the head of the answer")
        self._keeps = False
        self._body.end()

    def _take_head(self, data: bytes) -> bytes:
        """Return what came after the head, or nothing while that has not ended."""
        text = self._text + data
        while self.head is None:
            end = _end_of_head(text)
            if end is None:
                self._text = text
                return b""
            self._read_head(text[: end + len(_LINE_END)])
            text = text[end + len(_HEAD_END) :]
        self._text = b""
        return text

    def _read_head(self, text: bytes) -> None:
        version, status, fields = _parse_head(text)
        if status >= _FINAL:
            self.head = Head(status, dict(fields))
            self._body = _body_of(self._method, version, status, fields)
            self._keeps = version == b"1" and "close" not in _members(fields, "connection")
            return
        if status == _SWITCHING and self._is_switched(version, fields):
            self.head, self._body = Head(status, dict(fields)), _UntilEnd()
            return
        self._interim += 1
        if status == _SWITCHING or self._interim > MAX_INTERIM:
            raise HttpError("the protocol was switched unasked, or interim answers do not end")

    def _is_switched(self, version: bytes, fields: Fields) -> bool:
        """Say whether an answer with 101 goes on in the protocol that was asked for (RFC 9110, 7.8)."""
        named = _members(fields, "upgrade") == [self._upgrade] and "upgrade" in _members(fields, "connection")
        return version == b"1" and named


def _end_of_head(text: bytes) -> int | None:
    if not text.startswith(_START) and not _START.startswith(text):
        raise HttpError("the answer is no HTTP/1")
    end = text.find(_HEAD_END, 0, MAX_HEAD + len(_HEAD_END))
    if end < 0 and len(text) >= MAX_HEAD + len(_HEAD_END):
        raise HttpError(f"the head of the answer is larger than {MAX_HEAD} bytes")
    return end if end >= 0 else None


def _parse_head(text: bytes) -> tuple[bytes, int, Fields]:
    found = _HEAD.fullmatch(text)
    if found is None:
        raise HttpError("the head of the answer is malformed")
    version, status, lines = found.groups()
    if lines.count(_LINE_END) > MAX_FIELDS:
        raise HttpError(f"the answer has more than {MAX_FIELDS} headers")
    return version, int(status), [_field(line) for line in _text(lines).split("\r\n")[:-1]]


def _text(lines: bytes) -> str:
    try:
        return lines.decode()
    except UnicodeDecodeError:
        return lines.decode("latin-1")  # RFC 9110, 5.5: bytes without a meaning


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip(" \t")


def _members(fields: Fields, name: str) -> list[str]:
    """Return the members of a list header, wherever it stands (RFC 9110, 5.6.1), in lower case."""
    return [
        member.strip(" \t").lower() for key, value in fields if key == name for member in value.split(",")
    ]


# Bodies (RFC 9112, 6.3). Each takes bytes, and returns its own among them and whether there were more.


class _Body(Protocol):
    done: bool

    def take(self, data: bytes) -> tuple[bytes, bool]: ...

    def end(self) -> None: ...


def _body_of(method: str, version: bytes, status: int, fields: Fields) -> _Body:
    if method == "CONNECT":  # what follows is no body but the tunnel (RFC 9110, 9.3.6)
        return _Sized(0)
    framed = _framed(
        version, fields
    )  # judged first: fields that contradict each other are refused where no body follows, too
    return _Sized(0) if method == "HEAD" or status in _WITHOUT_BODY else framed


def _framed(version: bytes, fields: Fields) -> _Body:
    codings, lengths = _members(fields, "transfer-encoding"), _members(fields, "content-length")
    if codings:
        if lengths or codings != ["chunked"] or version == b"0":
            raise HttpError("the transfer coding of the answer is not chunked alone")
        return _Chunked()
    return _Sized(_length(lengths)) if lengths else _UntilEnd()


def _length(members: list[str]) -> int:
    if len(set(members)) != 1 or not _LENGTH.fullmatch(members[0]):
        raise HttpError("the length of the answer is no number, or more than one")
    return int(members[0])


class _Sized:
    def __init__(self, size: int) -> None:
        self._left, self.done = size, size == 0

    def take(self, data: bytes) -> tuple[bytes, bool]:
        excess = len(data) > self._left
        piece = data[: self._left] if excess else data
        self._left -= len(piece)
        self.done = self._left == 0
        return piece, excess

    def end(self) -> None:
        if not self.done:
            raise HttpError(f"the body ended {self._left} bytes early")


class _UntilEnd:
    def __init__(self) -> None:
        self.done = False

    def take(self, data: bytes) -> tuple[bytes, bool]:
        return data, False

    def end(self) -> None:
        self.done = True


class _Chunked:
    """Chunks (RFC 9112, 7.1): a line with the size, the data, CRLF; after size 0 trailers up to an empty line."""

    def __init__(self) -> None:
        self.done = False
        self._rest, self._at = b"", 0
        self._step: Callable[[bytes, list[bytes]], bool] = self._size
        self._left, self._trailers = 0, 0
        self._chunks, self._bytes, self._lines = 0, 0, 0

    def take(self, data: bytes) -> tuple[bytes, bool]:
        text, self._at = self._rest + data, 0
        pieces: list[bytes] = []
        while not self.done and self._step(text, pieces):
            pass
        self._rest = text[self._at :]
        # One piece for all: a peer that sends chunks of one byte makes nobody hold an object for each.
        return b"".join(pieces), self.done and bool(self._rest)

    def end(self) -> None:
        if not self.done:
            raise HttpError("the connection ended before the last chunk")

    # The steps. Each says whether it got on; if not, more bytes must come.

    def _size(self, text: bytes, _: list[bytes]) -> bool:
        line = self._line(text)
        if line is None:
            return False
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise HttpError("the size of a chunk is malformed")
        self._left = int(found[1], 16)
        self._step = self._data if self._left else self._trailer
        self._count(len(line))
        return True

    def _count(self, line: int) -> None:
        if self._chunks > SPARE_CHUNKS + self._bytes // LEAST_CHUNK:
            raise HttpError(f"the body comes in chunks of less than {LEAST_CHUNK} bytes")
        if self._lines > SPARE_LINES + self._bytes:
            raise HttpError("the body comes with more bytes around its chunks than in them")
        self._chunks += 1
        self._bytes += self._left
        self._lines += line

    def _data(self, text: bytes, pieces: list[bytes]) -> bool:
        piece = text[self._at : self._at + self._left]
        pieces.append(piece)
        self._at += len(piece)
        self._left -= len(piece)
        if self._left == 0:
            self._step = self._gap
        return self._left == 0

    def _gap(self, text: bytes, _: list[bytes]) -> bool:
        found = text[self._at : self._at + len(_LINE_END)]
        if not _LINE_END.startswith(found):
            raise HttpError("a chunk is longer than its size")
        if found != _LINE_END:
            return False
        self._at += len(_LINE_END)
        self._step = self._size
        return True

    def _trailer(self, text: bytes, _: list[bytes]) -> bool:
        line = self._line(text)
        if line is None:
            return False
        self._trailers += 1
        if line and (self._trailers > MAX_FIELDS or not _FIELD.fullmatch(line)):
            raise HttpError("the trailers are malformed, or too many")
        self.done = not line
        return True

    def _line(self, text: bytes) -> bytes | None:
        start = self._at
        end = text.find(_LINE_END, start, start + MAX_LINE + len(_LINE_END))
        if end >= 0:
            self._at = end + len(_LINE_END)
            return text[start:end]
        if len(text) - start >= MAX_LINE + len(_LINE_END):
            raise HttpError(f"a line between chunks is longer than {MAX_LINE} bytes")
        return None
