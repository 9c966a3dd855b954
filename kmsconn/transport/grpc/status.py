"""How a gRPC call ends: the status codes by name and number, and the error that carries one.

Source: https://github.com/grpc/grpc/blob/master/doc/statuscodes.md.
"""

from __future__ import annotations

from enum import Enum

from kmsconn.errors import KmsconnError

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
