"""The calls in flight over one connection: each one's reply is put together as events come, large ones as there is room. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import attrs
import trio

from kmsconn.errors import Unreachable
from kmsconn.transport.grpc.flow import Allowance, Claim
from kmsconn.transport.grpc.framing import GrpcReply
from kmsconn.transport.grpc.headers import Header
from kmsconn.transport.grpc.streams import (
    STREAM_WINDOW,
    DataCame,
    Event,
    HeadersCame,
    StreamEnded,
    StreamReset,
    Streams,
)


@attrs.define(eq=False)
class ClientCall:
    """One call: its stream, its reply, the room that it claims, and whether it is over."""

    stream: int
    reply: GrpcReply
    claim: Claim | None = None
    done: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False)
class ClientCalls:
    """Calls over ``streams``. ``max_message`` limits one reply; ``wake`` is called when there is something to write."""

    streams: Streams
    max_message: int
    allowance: Allowance
    wake: Callable[[], None]
    _in_flight: dict[int, ClientCall] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(self._in_flight)

    def begin(self, headers: Sequence[Header], parts: Iterable[bytes]) -> ClientCall:
        """Send a call."""
        stream = self.streams.open(headers, parts)
        call = self._in_flight[stream] = ClientCall(stream, GrpcReply(self.max_message))
        self.wake()
        return call

    def end(self, call: ClientCall) -> None:
        """Forget a call, and reset its stream where that is not over."""
        del self._in_flight[call.stream]
        self.streams.close(call.stream)
        if call.claim is not None:
            self.allowance.give_back(call.claim)
        self.wake()

    def fail(self, reason: str) -> None:
        """End all calls as unreachable, each with an error of its own: a shared one would hold what all of them had sent."""
        for call in self._in_flight.values():
            call.reply.fail(Unreachable(reason))
            call.done.set()

    def deliver(self, event: Event) -> None:
        """Take an event of a stream."""
        call = self._in_flight.get(event.stream)
        if call is None:
            return
        match event:
            case HeadersCame():
                call.reply.take_headers(event.fields)
            case DataCame():
                call.reply.take_data(event.data)
                if call.claim is None and call.reply.size > STREAM_WINDOW:
                    self._claim(call)
            case StreamEnded():
                call.reply.take_end()
            case StreamReset():
                call.reply.take_reset(event.code)
        if call.reply.finished:
            call.done.set()

    def _claim(self, call: ClientCall) -> None:
        """Let a large reply come once there is room. It has brought less than half its window: nothing was granted."""
        self.streams.hold(call.stream)
        # the stream's number only: the call holds the claim, and a claim that held the call would keep the reply
        call.claim = self.allowance.ask(call.reply.size, partial(self._come, call.stream))

    def _come(self, stream: int) -> None:
        self.streams.resume(stream)
        self.wake()
