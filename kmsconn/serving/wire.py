"""The bytes of one HTTP/1.1 connection: requests out of what a client sends, answers into what it gets. No I/O, and no Trio.

h11 reads; what it lets pass and RFC 9112 does not is refused here, so that no two readers of a stream disagree where a
request ends: a body with two lengths, or chunks under HTTP/1.0. Other versions, HTTP/2 among them, and CONNECT are refused, ``Upgrade``
is ignored. A client that may send on after its answer is told ``Connection: close``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import attrs
import h11

HEAD_BYTES: Final = 16 * 1024
"""Of a request's head. Relayers, scrapers and probes send below 1 KiB."""

_ORIGIN = re.compile(r"https?://[^/?#]*", re.IGNORECASE)  # of an absolute target (RFC 9112, 3.2.2)
_VERSIONS = frozenset({b"1.0", b"1.1"})
_REASONS = {int(status): status.phrase for status in HTTPStatus}
_UNREAD = frozenset({h11.IDLE, h11.SEND_BODY, h11.ERROR})


class BadRequest(Exception):  # noqa: N818 - what is answered, not a fault of ours
    """The bytes are no request that is answered; ``status`` says so to the client."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


@attrs.frozen
class ServedRequest:
    """The head of a request. ``headers`` have names in small letters, and may hold a key, so they never show."""

    path: str
    method: str = "GET"
    headers: tuple[tuple[bytes, bytes], ...] = attrs.field(default=(), repr=False)

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a header, in their order."""
        return [value for one, value in self.headers if one == name]

    def value(self, name: bytes) -> bytes:
        """Return the first value of a header, nothing where there is none."""
        return next(iter(self.values(name)), b"")

    def lists(self, name: bytes, word: bytes) -> bool:
        """Say whether a header, a list of words, has one of them."""
        return any(word == one.strip().lower() for value in self.values(name) for one in value.split(b","))

    @property
    def length(self) -> int:
        """How long the body is said to be; zero where that is not said."""
        return int(self.value(b"content-length") or b"0")


Header = tuple[str, str]
Headers = tuple[Header, ...]
"""Names and values of this program: nothing that a client sent goes into them."""


@attrs.frozen
class ServedAnswer:
    """A whole answer. ``headers`` are those beside its type, length and date."""

    status: int
    content_type: str = ""
    body: bytes = b""
    headers: Headers = ()


@attrs.frozen
class LiveAnswer:
    """An answer without an end: ``next_piece`` waits for the next piece of its body. ``close`` is called once the client is gone."""

    content_type: str
    next_piece: Callable[[], Awaitable[bytes]]
    close: Callable[[], None]
    headers: Headers = ()


class Wire:
    """Reads requests one after the other, and words their answers. What comes behind a request stays unread until its turn."""

    def __init__(self, data: bytes = b"") -> None:
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._version = b""
        self._last = True  # there is no further request on this connection
        self._proceeds = self._answered = False
        self.head_only = False
        """Whether the client wants no body."""
        if data:
            self.receive(data)

    def receive(self, data: bytes) -> None:
        """Take what came."""
        self._h11.receive_data(data)

    @property
    def ahead(self) -> bool:
        """Whether something came that is not read yet."""
        return bool(self._h11.trailing_data[0])

    @property
    def whole(self) -> bool:
        """Whether the request was read to its end."""
        return self._h11.their_state not in _UNREAD

    @property
    def holds_back(self) -> bool:
        """Whether the client waits for a word before it sends its body."""
        return self._h11.they_are_waiting_for_100_continue and not self._proceeds

    def head(self) -> ServedRequest | None:
        """Return the next request; None: more must come. Raises BadRequest."""
        event = self._event()
        if not isinstance(event, h11.Request):
            return None
        request = ServedRequest(
            _ORIGIN.sub("", event.target.decode("latin-1"), count=1).partition("?")[0] or "/",
            event.method.decode("latin-1"),
            tuple(event.headers),
        )
        _check(event.http_version, request)
        self._version, self.head_only = event.http_version, event.method == b"HEAD"
        self._last = self._version == b"1.0" or request.lists(b"connection", b"close")
        return request

    def piece(self) -> bytes | None:
        """Return the next piece of the body, nothing at its end; None: more must come. Raises BadRequest."""
        event = None if self.whole else self._event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        return b"" if self.whole else None

    def _event(self) -> object:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise BadRequest(error.error_status_hint) from error

    def proceed(self) -> bytes:
        """Return what tells a client that holds back to send its body; nothing for any other."""
        if not self.holds_back:
            return b""
        self._proceeds = True
        return b"HTTP/1.1 100 Continue\r\n\r\n"

    def answer(self, answer: ServedAnswer, *, close: bool) -> bytes:
        """Return the bytes of the answer; none where no answer can be given any more."""
        if self._answered:
            return b""
        self._last |= close
        length = ("content-length", str(len(answer.body)))
        head = self._begin(answer.status, answer.content_type, length, answer.headers)
        return head if self.head_only else head + answer.body

    def begin(self, answer: LiveAnswer) -> bytes:
        """Return the head of an answer without an end."""
        self._last = True
        framing = () if self._version == b"1.0" else ("transfer-encoding", "chunked")
        return self._begin(200, answer.content_type, framing, answer.headers)

    def more(self, data: bytes) -> bytes:
        """Return the bytes of a further piece of it."""
        return data if self._version == b"1.0" else b"%x\r\n%b\r\n" % (len(data), data)

    def _begin(self, status: int, content_type: str, framing: tuple[()] | Header, headers: Headers) -> bytes:
        self._answered = True
        said = [f"HTTP/1.1 {status} {_REASONS[status]}", f"date: {_date(int(time.time()))}"]
        if content_type:
            said.append(f"content-type: {content_type}")
        if framing:
            said.append(": ".join(framing))
        said += map(": ".join, headers)
        if self._last:
            said.append("connection: close")
        return ("\r\n".join(said) + "\r\n\r\n").encode("latin-1")

    def next(self) -> Wire | None:
        """Return what reads the next request of the connection; None where there is none, or this one was not read to its end."""
        return None if self._last or not self.whole else Wire(self._h11.trailing_data[0])


def _check(version: bytes, request: ServedRequest) -> None:
    """Refuse what h11 lets pass (RFC 9112, 2.3, 6.1 and 6.3). Raises BadRequest."""
    if version not in _VERSIONS:
        raise BadRequest(505)
    if request.method == "CONNECT":
        raise BadRequest(501)
    if request.values(b"transfer-encoding") and (version == b"1.0" or request.values(b"content-length")):
        raise BadRequest(400)


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
