"""gRPC over HTTP/2 as data: the request's headers and prefix, the reply's message and status; never does I/O.

Sources: gRPC over HTTP2 (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), its status codes
(https://github.com/grpc/grpc/blob/master/doc/statuscodes.md) and the mapping of HTTP status codes
(https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from kmsconn.errors import Broken, KmsconnError
from kmsconn.transport.grpc.frames import Claim, ErrorCode, code_name
from kmsconn.transport.grpc.headers import Header
from kmsconn.transport.grpc.streams import STREAM_WINDOW

MAX_TEXT = 1024  # characters of a message that a server sent


class Status(Enum):
    """How a call ended: the number of ``grpc-status``."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_STATUSES = {b"%d" % status.value: status for status in Status}


class StatusError(KmsconnError):
    """A call ended with a status other than OK. ``spoken`` says whether the server itself said so."""

    def __init__(self, status: Status, message: str = "", *, spoken: bool = True) -> None:
        super().__init__(f"{status.name}: {printable(message)}" if message else status.name)
        self.status, self.message, self.spoken = status, message, spoken


class NotProcessed(StatusError):  # noqa: N818 - says what happened, as those of kmsconn.errors
    """The server says that it did nothing with the call: it may be made again whatever it does."""

    def __init__(self, message: str) -> None:
        super().__init__(Status.UNAVAILABLE, message, spoken=False)


def printable(text: str) -> str:
    """Return a foreign text without control characters, at most 1024 characters long."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:MAX_TEXT])


MAX_MESSAGE = 100 * 1024 * 1024  # what a Core sends and takes as shipped (kms-core-grpc.md section 1)
PREFIX = struct.Struct(">BI")
CONTENT_TYPE = b"application/grpc"
PAGE_BYTES = 1024  # of a body that is no gRPC, to be told in the error

_HTTP_STATUS: Mapping[int, Status] = {
    400: Status.INTERNAL,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.UNIMPLEMENTED,
    429: Status.UNAVAILABLE,
    502: Status.UNAVAILABLE,
    503: Status.UNAVAILABLE,
    504: Status.UNAVAILABLE,
}

_RESET_STATUS: Mapping[int, Status] = {
    ErrorCode.CANCEL: Status.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: Status.PERMISSION_DENIED,
}


@lru_cache(256)
def request_headers(path: str, authority: str, scheme: str) -> tuple[Header, ...]:
    """Return the headers of a unary call. No timeout is sent: at its end the stream is reset, which ends the call at the server too."""
    return (
        (b":method", b"POST"),
        (b":scheme", scheme.encode()),
        (b":path", path.encode()),
        (b":authority", authority.encode()),
        (b"te", b"trailers"),
        (b"content-type", CONTENT_TYPE),
        (b"user-agent", b"kmsconn"),
    )


class GrpcReply:
    """The reply of one unary call, put together from whatever pieces it comes in: what takes its stream.

    ``finished`` becomes true when nothing more is awaited, and ``done`` is called; ``message`` then gives the bytes or raises. ``large``
    is told the size of a message that does not fit into the stream's window, before the peer is granted more. HTTP status and content
    type say whether the body is gRPC at all: of any other, a proxy's page, the beginning is kept to be told.
    """

    def __init__(self, limit: int = MAX_MESSAGE, done: Callable[[], None] = lambda: None) -> None:
        self.finished = False
        self.large: Callable[[int], None] = lambda _size: None
        self.claim: Claim | None = None
        """The room that it needs where it is large."""
        self._done = done
        self._limit = limit
        self._body = (
            bytearray()
        )  # not a list of pieces: bytes that come one by one would take fifty times their size
        self._size: int | None = None  # of the message, once its prefix, which the body begins with, is read
        self._foreign = False
        self._fields: dict[bytes, bytes] = {}
        self._error: KmsconnError | None = None

    def take_headers(self, fields: Iterable[Header]) -> None:
        """Take headers or trailers. Of both, the trailers say how the call ended."""
        self._fields.update(fields)
        is_grpc = self._fields.get(b"content-type", b"").startswith(CONTENT_TYPE)
        self._foreign = self._fields.get(b":status") != b"200" or not is_grpc

    def take_data(self, data: bytes | memoryview) -> None:
        """Take some bytes of the message; a wrong prefix or a second message ends the reply as broken."""
        if self.finished:
            return
        if self._foreign:
            self._take_page(data)
            return
        self._body += data
        if self._size is None:
            if len(self._body) < PREFIX.size:
                return
            compressed, self._size = PREFIX.unpack_from(self._body)
            del self._body[: PREFIX.size]
            if compressed:
                self.fail(Broken("core", "compressed reply, but none was offered"))
            elif self._size > self._limit:
                self.fail(Broken("core", f"reply of {self._size} bytes, more than {self._limit}"))
            elif self._size > STREAM_WINDOW:
                self.large(self._size)
        if len(self._body) > self._size:
            self.fail(Broken("core", "more than one message in a unary reply"))

    def _take_page(self, data: bytes | memoryview) -> None:
        """Keep the beginning of a body that is no gRPC; the rest is not awaited."""
        self._body += data[: PAGE_BYTES - len(self._body)]
        if len(self._body) == PAGE_BYTES:
            self.take_end()

    def take_end(self) -> None:
        """Take the regular end of the stream: the status decides."""
        if self.finished:
            return
        self.finished = True
        self._done()
        said = self._fields.get(b"grpc-status")
        if said is None:
            self._error = _unsaid(self._fields, self._body if self._foreign else b"")
            return
        status = _STATUSES.get(said, Status.UNKNOWN)  # also for a number that gRPC does not know, or none
        if status is not Status.OK:
            self._error = StatusError(status, percent_decoded(self._fields.get(b"grpc-message", b"")))
        elif len(self._body) != self._size:
            self._error = Broken("core", "status OK without a whole message")

    def take_reset(self, code: int) -> None:
        """Take the server's RST_STREAM with its HTTP/2 error code."""
        if code == ErrorCode.REFUSED_STREAM:
            self.fail(NotProcessed("the server did not process the call"))
            return
        status = _RESET_STATUS.get(code, Status.INTERNAL)
        self.fail(StatusError(status, f"stream reset: {code_name(code)}", spoken=False))

    def fail(self, error: KmsconnError) -> None:
        """End the reply with an error, unless it has ended."""
        if not self.finished:
            self.finished, self._error = True, error
            self._body = bytearray()
            self._done()

    def message(self) -> bytes:
        """Dispatch the message. Raises StatusError, Broken or whatever ``fail`` was given."""
        if self._error is not None:
            raise self._error
        return bytes(self._body)


def _unsaid(fields: Mapping[bytes, bytes], page: bytes | bytearray) -> StatusError:
    """Return what an HTTP answer without a gRPC status means, with what it says: no word of the server itself."""
    http = fields.get(b":status", b"").decode("ascii", "replace")
    status = _HTTP_STATUS.get(int(http), Status.UNKNOWN) if http.isdecimal() else Status.UNKNOWN
    text = " ".join(page.decode("utf-8", "replace").split())
    kind = fields.get(b"content-type", b"no content type").decode("latin-1")
    said = f" ({kind}): {text}" if text else ""
    return StatusError(status, f"no grpc-status, HTTP status {http or 'missing'}{said}", spoken=False)


def percent_decoded(text: bytes) -> str:
    """Read a grpc-message; what is no percent-encoding or no UTF-8 is kept as well as it can be."""
    return unquote_to_bytes(text).decode("utf-8", "replace")
