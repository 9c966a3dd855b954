"""One HTTP/1.1 exchange of the monitoring port: the bytes of a request in, the bytes of its answer out. No I/O, and no Trio.

A connection carries one request (``connection: close``), so what a client pipelines behind it is never read as a second one. Only the
head counts: the paths of 0.14 answer alike whatever the method, and a body changes nothing (fhevm-0.14.md, 10.1).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import attrs
import h11

MAX_HEAD: Final = 16 * 1024
"""Bytes of a request's head. Scrapers and probes send below 1 KiB."""

_ORIGIN = re.compile(r"https?://[^/?#]*", re.IGNORECASE)  # of an absolute target (RFC 9112, 3.2.2)
_VERSIONS = frozenset({b"1.0", b"1.1"})


class BadRequest(Exception):  # noqa: N818 - what is answered, not a fault of ours
    """The bytes are no request that is answered; ``status`` says so to the client."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


@attrs.frozen
class ProbeRequest:
    """The head of a request, as far as an answer depends on it. ``authorization`` may hold a token, so it never shows."""

    path: str
    method: str = "GET"
    host: str = ""
    authorization: bytes = attrs.field(default=b"", repr=False)


Headers = tuple[tuple[str, str], ...]


@attrs.frozen
class ProbeAnswer:
    """A whole HTTP answer. ``headers`` are those beside its type and length."""

    status: int
    content_type: str
    body: bytes
    headers: Headers = ()


@attrs.frozen
class LiveAnswer:
    """An answer without an end: ``next_piece`` waits for the next piece of its body. ``close`` is called once the client is gone."""

    content_type: str
    next_piece: Callable[[], Awaitable[bytes]]
    close: Callable[[], None]
    headers: Headers = ()


@attrs.frozen
class AwaitedAnswer:
    """An answer that must be waited for, such as one out of the journal."""

    wait: Callable[[], Awaitable[ProbeAnswer]]


class Exchange:
    """Reads one request and words one answer."""

    def __init__(self) -> None:
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._head_only = False
        self.request = ProbeRequest("")
        """What is asked for, once ``receive`` has returned its path."""

    def receive(self, data: bytes) -> str | None:
        """Take what came, nothing for the end of the connection; return the path that is asked for once the head is whole.

        Raises BadRequest for what is no HTTP/1 request, and for a head of more than ``MAX_HEAD`` bytes.
        """
        try:
            self._h11.receive_data(data)
            event = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise BadRequest(error.error_status_hint) from error
        if event is h11.NEED_DATA:
            return None
        if not isinstance(event, h11.Request):  # the end, before there was a request
            raise BadRequest(400)
        if event.http_version not in _VERSIONS:
            raise BadRequest(505)
        self._head_only = event.method == b"HEAD"
        self.request = _request(event)
        return self.request.path

    def answer(self, answer: ProbeAnswer) -> bytes:
        """Return the bytes of the answer; none where no answer can be given any more."""
        if self._h11.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return b""
        headers = [
            ("content-type", answer.content_type),
            ("content-length", str(len(answer.body))),
            ("connection", "close"),
            *answer.headers,
        ]
        head = self._h11.send(h11.Response(status_code=answer.status, headers=headers)) or b""
        return head if self._head_only else head + answer.body

    def begin(self, answer: LiveAnswer) -> bytes:
        """Return the head of an answer without an end."""
        headers = [("content-type", answer.content_type), ("connection", "close"), *answer.headers]
        return self._h11.send(h11.Response(status_code=200, headers=headers)) or b""

    def piece(self, data: bytes) -> bytes:
        """Return the bytes of a further piece of it; none for a request that wants the head alone."""
        return b"" if self._head_only else self._h11.send(h11.Data(data=data)) or b""

    @property
    def head_only(self) -> bool:
        """Whether the client wants no body."""
        return self._head_only


def _request(event: h11.Request) -> ProbeRequest:
    return ProbeRequest(
        path=_path(event.target.decode("latin-1")),
        method=event.method.decode("latin-1"),
        host=_header(event.headers, b"host").decode("latin-1"),
        authorization=_header(event.headers, b"authorization"),
    )


def _header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    return next((value for name, value in headers if name == wanted), b"")


def _path(target: str) -> str:
    return _ORIGIN.sub("", target, count=1).partition("?")[0] or "/"
