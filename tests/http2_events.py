"""A client's HTTP/2 connection that tells what its streams were told, for the tests of both suites."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kmsconn.emulator.http2 import Collected, Event
from kmsconn.transport.grpc.headers import Header
from kmsconn.transport.grpc.http2 import Connection
from kmsconn.transport.grpc.streams import Streams


class WatchedStreams(Streams):
    """Streams whose takers collect events."""

    events: list[Event]

    def open(self, headers: tuple[Header, ...], parts: Iterable[bytes], taker: Any = None) -> int:
        return super().open(headers, parts, taker or Collected(self.events, self._next))


class Watched(Connection):
    """A connection whose ``receive`` returns the events of the bytes."""

    streams: WatchedStreams

    def __init__(self) -> None:
        super().__init__()
        self.streams.__class__ = WatchedStreams
        self.streams.events = []

    def receive(self, data: bytes) -> Any:
        super().receive(data)
        told = [*self.streams.events]
        self.streams.events.clear()
        return told
