"""JSON-RPC over one websocket: calls pipelined by id, pushes handed on by subscription. Never reconnects.

Three tasks: the library's reader; ours, which always drains it (a slow consumer would starve its pings) and never waits for
anybody; and a writer, so that cancelling a call cannot leave half a frame on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import h11
import trio
import trio_websocket
import wsproto.utilities

from kmsconn.chain.jsonrpc import Answer, Complaint, Message, Notification, call_result, decode, encode
from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import Unreachable
from kmsconn.net.ports import Dial
from kmsconn.net.urls import Url, parse

MAX_MESSAGE = 64 * 1024 * 1024  # an answer to eth_getLogs over a whole range
RECEIVE_QUEUE = 1024  # pushes in one burst; drained at once, so a bound on what a stalled loop can pile up
RECEIVE_BYTES = 64 * 1024
OUTBOX = 64  # frames waiting for the wire; beyond that callers wait, as they would for the wire itself

FOREIGN_ERRORS: tuple[type[Exception], ...] = (
    trio_websocket.HandshakeError,
    trio_websocket.ConnectionClosed,
    wsproto.utilities.ProtocolError,
    h11.ProtocolError,  # the library answers a crooked handshake in the wrong role
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    OSError,
)


class _Asked:
    """The questions of one frame, and their answers as they come."""

    def __init__(self, ids: range) -> None:
        self.ids = ids
        self.outcomes: dict[int, Any] = {}
        self.failure: str | None = None
        self.done = trio.Event()

    def take(self, number: int, outcome: Any) -> None:
        self.outcomes.setdefault(number, outcome)
        if len(self.outcomes) == len(self.ids):
            self.done.set()

    def fail(self, reason: str) -> None:
        self.failure = reason
        self.done.set()

    def results(self) -> list[Any]:
        if self.failure is not None:
            raise Unreachable(self.failure)
        return [self.outcomes[number] for number in self.ids]


class WebSocketLink:
    """One connection, from its handshake to its end. Made by ``run_websocket``."""

    def __init__(self, origin: str) -> None:
        self.ended = trio.Event()
        self.reason = ""
        self._origin = origin
        self._next_id = 1
        self._asked: dict[int, _Asked] = {}
        self._subscriptions: dict[str, Callable[[Any], None]] = {}
        self._outbox, self._frames = trio.open_memory_channel[bytes](OUTBOX)

    async def exchange(self, calls: Sequence[Call], *, batch: bool) -> list[Any]:
        """Ask in one frame and return an outcome for each call: a JSON result or an RpcError.

        Raises Unreachable when the connection ends before all are answered.
        Cancellation: at any time; what comes late is dropped. Repeating: the caller's question.
        """
        ids = range(self._next_id, self._next_id + len(calls))
        self._next_id = ids.stop
        asked = _Asked(ids)
        self._asked.update(dict.fromkeys(ids, asked))
        try:
            await self._send(encode(ids.start, calls, batch=batch))
            await asked.done.wait()
        finally:
            for number in ids:
                self._asked.pop(number, None)
        return asked.results()

    async def _send(self, frame: bytes) -> None:
        try:
            await self._outbox.send(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Unreachable(self.reason) from error

    async def subscribe(self, subscription: Sequence[Any], ring: Callable[[Any], None]) -> str:
        """Subscribe and return the subscription's id; ``ring`` is called with each push, in the reading task: it must not block.

        Raises RpcError, Overloaded, Unreachable. Pushes between the answer and the return may be missed.
        """
        (outcome,) = await self.exchange([Call("eth_subscribe", tuple(subscription))], batch=False)
        identifier = str(call_result(outcome))
        self._subscriptions[identifier] = ring
        return identifier

    def forget(self, identifier: str) -> None:
        """Ring no more for a subscription."""
        self._subscriptions.pop(identifier, None)

    def drop(self, reason: str) -> None:
        """Give the connection up: all waiting calls fail with ``reason``, and its tasks end."""
        if self.ended.is_set():
            return
        self.reason = f"{self._origin}: {reason}"
        for asked in list(self._asked.values()):
            asked.fail(self.reason)
        self._subscriptions.clear()
        self._frames.close()
        self.ended.set()

    # The two tasks of a connection.

    async def read(self, connection: trio_websocket.WebSocketConnection) -> None:
        """Drain the connection until it is closed or sends what is no JSON-RPC."""
        try:
            while True:
                self._dispatch(decode(await connection.get_message()))
        except Unreachable as error:
            self.drop(str(error))
        except FOREIGN_ERRORS as error:
            self.drop(_describe(error))

    def _dispatch(self, messages: list[Message]) -> None:
        for message in messages:
            match message:
                case Answer(number, outcome):
                    self._answered(number, outcome)
                case Notification(subscription, result):
                    self._subscriptions.get(subscription, _ignore)(result)
                case Complaint(error):
                    self._complained(error)

    def _answered(self, number: int, outcome: Any) -> None:
        asked = self._asked.get(number)
        if asked is not None:
            asked.take(number, outcome)

    def _complained(self, error: RpcError) -> None:
        for number, asked in list(self._asked.items()):
            asked.take(number, error)

    async def write(self, connection: trio_websocket.WebSocketConnection) -> None:
        """Send frames one after the other until the connection ends."""
        try:
            while True:
                frame = await self._frames.receive()
                await connection.send_message(frame.decode())
        except FOREIGN_ERRORS as error:
            self.drop(_describe(error))


def _ignore(push: Any) -> None:
    """Take a push of a subscription that nobody listens to any more."""


def _describe(error: BaseException) -> str:
    if isinstance(error, trio_websocket.ConnectionClosed):
        reason = error.reason
        return "closed" if reason is None else f"closed with {reason.code} {reason.reason or ''}".rstrip()
    if isinstance(error, trio_websocket.ConnectionRejected):
        return f"no websocket, HTTP {error.status_code}"
    return f"{type(error).__name__} {error}".rstrip()


class _Watched(trio.abc.Stream):
    """A stream that tells when its peer is gone: the library's handshake would wait for ever."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.gone = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.gone.set()
            raise
        if not data:
            self.gone.set()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.gone.set()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await trio.aclose_forcefully(
            self._stream
        )  # a websocket's end is its close frame; nothing here waits for a peer


async def run_websocket(  # noqa: ASYNC128 - hands its task_status on
    dial: Dial, url: str, *, task_status: trio.TaskStatus[WebSocketLink] = trio.TASK_STATUS_IGNORED
) -> None:
    """Connect, report the link as started, and serve it until it ends or is dropped.

    Raises Unreachable when there is no websocket at that URL; after the start, an end is told by ``link.ended`` and
    ``link.reason`` only. Cancellation: ends the connection at once, and all waiting calls with it.
    """
    parsed = parse(url)
    link = WebSocketLink(parsed.origin)
    try:
        stream = _Watched(await dial(parsed.host, parsed.port, tls=parsed.tls))
    except OSError as error:
        raise Unreachable(f"{parsed.origin}: {type(error).__name__} {error}".rstrip()) from error
    try:
        await _serve(link, stream, parsed, task_status)
    finally:
        link.drop("closed here")
        await trio.aclose_forcefully(stream)


async def _serve(
    link: WebSocketLink, stream: _Watched, url: Url, task_status: trio.TaskStatus[WebSocketLink]
) -> None:
    refused: list[BaseException] = []
    started = False
    try:
        async with trio.open_nursery() as nursery:
            connection = await _shake_hands(nursery, stream, url)
            if connection is not None:
                nursery.start_soon(link.read, connection)
                nursery.start_soon(link.write, connection)
                task_status.started(link)
                started = True
                await link.ended.wait()
            nursery.cancel_scope.cancel()
    except* FOREIGN_ERRORS as group:
        refused.append(group)
        link.drop(_describe(_first_leaf(group)))
    if not started:
        raise Unreachable(link.reason or f"{url.origin}: hung up during the handshake") from next(
            iter(refused), None
        )


async def _shake_hands(
    nursery: trio.Nursery, stream: _Watched, url: Url
) -> trio_websocket.WebSocketConnection | None:
    """Open the websocket, its reader in ``nursery``; None when the peer hangs up meanwhile."""
    headers = [(b"Authorization", url.authorization.encode())] if url.authorization else []
    connection = None
    async with trio.open_nursery() as watching:
        watching.start_soon(_cancel_after, stream.gone, watching.cancel_scope)
        connection = await trio_websocket.wrap_client_stream(
            nursery,
            cast("Any", stream),  # any Stream will do; the library's annotation is narrower than its code
            url.authority,
            url.target,
            extra_headers=headers,
            message_queue_size=RECEIVE_QUEUE,
            max_message_size=MAX_MESSAGE,
            receive_buffer_size=RECEIVE_BYTES,
        )
        watching.cancel_scope.cancel()
    return connection


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _first_leaf(group: BaseExceptionGroup[Any]) -> BaseException:
    leaf = group.exceptions[0]
    return _first_leaf(leaf) if isinstance(leaf, BaseExceptionGroup) else leaf
