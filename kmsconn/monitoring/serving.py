"""A bounded HTTP server: few connections, one request on each, deadlines for both directions. Never what is answered.

The port listens on all interfaces, so any stranger may connect, and the connector must not notice: no client holds more than one of
``CONNECTIONS`` descriptors for more than a few seconds, nor more memory than a request's head. When all are taken, the newest client
is let in and the oldest connection of the address that holds the most is dropped: a probe still gets its answer while one stranger
holds every connection open.

An answer without an end (a viewer of the status page) is one of those connections; a client that does not take a piece of it within
``ANSWER_SECONDS`` is dropped.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Never

import trio

from kmsconn.monitoring.exchange import (
    AwaitedAnswer,
    BadRequest,
    Exchange,
    LiveAnswer,
    ProbeAnswer,
    ProbeRequest,
)

PageAnswer = ProbeAnswer | LiveAnswer | AwaitedAnswer
Page = Callable[[ProbeRequest], PageAnswer]
"""Answers a request. Must not block."""

CONNECTIONS: Final = 64
REQUEST_SECONDS: Final = 5.0
"""In which the head of a request must have come."""
ANSWER_SECONDS: Final = 5.0
"""In which the client must have taken the answer."""
LINGER_SECONDS: Final = 1.0
"""In which the client may close first: closing on unread bytes resets the connection, and the answer could be lost (RFC 9112, 9.6)."""
FULL_SECONDS: Final = 0.1
"""Between two tries to accept while the process or the machine has no descriptor left."""

UNTAKEN_BYTES: Final = 64 * 1024
"""Of an answer without an end, that the kernel holds for a client that does not take them."""

_PIECE = 4096  # bytes received at once
_REFUSAL = "text/plain; charset=utf-8"
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


async def serve(
    listener: trio.SocketListener,
    page: Page,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> Never:
    """Serve until cancelled, which closes every connection at once. A lack of descriptors is waited out."""
    held = HeldConnections()
    async with trio.open_nursery() as nursery:
        task_status.started()
        while True:
            stream = await _accept(listener)
            nursery.start_soon(_attend, stream, held, page)


async def _accept(listener: trio.SocketListener) -> trio.SocketStream:
    while True:
        try:
            return await listener.accept()
        except OSError:  # no descriptor or no memory is left: the client stays in the kernel's queue
            await trio.sleep(FULL_SECONDS)


class HeldConnections:
    """The connections that are open now, in the order in which they came."""

    def __init__(self) -> None:
        self._open: dict[trio.CancelScope, str] = {}

    def __len__(self) -> int:
        return len(self._open)

    def record(self, address: str) -> trio.CancelScope:
        """Return the scope of a new connection from an address; it is cancelled when a later one needs the room."""
        if len(self._open) >= CONNECTIONS:
            self._drop_one()
        scope = trio.CancelScope()
        self._open[scope] = address
        return scope

    def release(self, scope: trio.CancelScope) -> None:
        """Forget a connection that has ended."""
        self._open.pop(scope, None)

    def _drop_one(self) -> None:
        [(busiest, _)] = Counter(self._open.values()).most_common(1)
        oldest = next(scope for scope, address in self._open.items() if address == busiest)
        self.release(oldest)
        oldest.cancel()


async def _attend(stream: trio.SocketStream, held: HeldConnections, page: Page) -> None:
    """Serve one connection and close it."""
    scope = held.record(_address(stream))
    try:
        async with stream:
            with scope, suppress(*_GONE):
                await exchange(stream, page)
    finally:
        held.release(scope)


def _address(stream: trio.SocketStream) -> str:
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:  # gone already
        return ""


async def exchange(stream: trio.abc.HalfCloseableStream, page: Page) -> None:
    """Answer one request. Raises BrokenResourceError when the client is gone. Cancellation: at any time."""
    wire = Exchange()
    answer: PageAnswer = _refusal(408)
    with trio.move_on_after(REQUEST_SECONDS):
        answer = await _answer(stream, wire, page)
    if isinstance(answer, LiveAnswer):
        await _send_pieces(stream, wire, answer)
        return
    if isinstance(answer, AwaitedAnswer):
        answer = await _awaited(answer)
    with trio.move_on_after(ANSWER_SECONDS) as writing:
        await stream.send_all(wire.answer(answer))
    if not writing.cancelled_caught:
        await _linger(stream)


async def _awaited(answer: AwaitedAnswer) -> ProbeAnswer:
    with trio.move_on_after(ANSWER_SECONDS):
        return await answer.wait()
    return _refusal(503)


async def _send_pieces(stream: trio.abc.SendStream, wire: Exchange, answer: LiveAnswer) -> None:
    """Send an answer without an end until the client is gone, or too slow."""
    try:
        _limit_untaken(stream)
        data = wire.begin(answer)
        while True:
            with trio.move_on_after(ANSWER_SECONDS) as writing:
                await stream.send_all(data)
            if writing.cancelled_caught or wire.head_only:
                return
            data = wire.piece(await answer.next_piece())
    finally:
        answer.close()


def _limit_untaken(stream: trio.abc.SendStream) -> None:
    if isinstance(stream, trio.SocketStream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNTAKEN_BYTES)


async def _answer(stream: trio.abc.ReceiveStream, wire: Exchange, page: Page) -> PageAnswer:
    try:
        while wire.receive(bytes(await stream.receive_some(_PIECE))) is None:
            pass
    except BadRequest as error:
        return _refusal(error.status)
    return page(wire.request)


def _refusal(status: int) -> ProbeAnswer:
    return ProbeAnswer(status, _REFUSAL, b"")


async def _linger(stream: trio.abc.HalfCloseableStream) -> None:
    """Let the client close first; what it still sends is thrown away."""
    await stream.send_eof()
    with trio.move_on_after(LINGER_SECONDS):
        while await stream.receive_some(_PIECE):
            pass
