"""JSON-RPC over one websocket: calls pipelined by id, pushes handed on by subscription. Never reconnects.

The reader never waits for anybody, so that pings are answered however slow the others are. The writer is a task of its own, so that
cancelling a call cannot leave half a frame on the wire; it sends what was asked in one moment in one piece. The pulse finds out that
a peer is gone though nobody asks it anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import trio

from kmsconn.chain.port import (
    RPC_CALL_TIMEOUT,
    Call,
    Message,
    RpcAnswer,
    RpcError,
    batch_results,
    call_result,
    clean,
    decode,
    encode,
)
from kmsconn.chain.websocket_wire import PING, TEXT, NoWebsocket, WebSocketWire, client_frame
from kmsconn.errors import KmsconnError, Unreachable
from kmsconn.transport.ports import Dial
from kmsconn.transport.urls import parse
from kmsconn.transport.wrong_peers import words_of

Take = Callable[[int, Any], object]


class RpcExchange:
    """Questions that went out together, as one batch or each for itself, and their answers as they come.

    ``name``: what errors name; ``take`` gets the outcome of each with its place.
    """

    def __init__(
        self,
        among: Exchanges,
        calls: Sequence[Call],
        name: str = "",
        *,
        batch: bool,
        take: Take | None = None,
    ) -> None:
        self.name = name
        self.ids = range(among.next_id, among.next_id + len(calls))
        among.next_id = self.ids.stop
        self.method, self.batch, self._waiting = calls[0].method, batch, among.waiting
        among.waiting.update(dict.fromkeys(self.ids, self))
        self.since = trio.current_time()
        self.outcomes: dict[int, Any] = {}
        """Of each question the first that came."""
        self._take = take
        self.failure: str | None = None
        self.done = trio.Event()

    def hear(self, number: int, outcome: Any) -> None:
        """Keep the first outcome of a question, and hand it on."""
        if number not in self.outcomes:
            self.outcomes[number] = outcome
            if self._take is not None:
                self._take(number - self.ids.start, outcome)

    def refuse(self, error: KmsconnError) -> None:
        """Take an error for all questions that have no outcome."""
        for number in self.ids:
            self._waiting.pop(number, None)
            self.hear(number, error)
        self.done.set()

    def fail(self, reason: str) -> None:
        """Expect no more outcomes."""
        self.failure = reason
        self.done.set()

    async def results(self) -> list[Any]:
        """Return all outcomes once they are there. Raises Unreachable when some will never come, and as ``batch_results``."""
        if not self.done.is_set():  # mostly it is, of the second of two chains that were asked together
            await self.done.wait()
        if self.failure is not None:
            raise Unreachable(self.failure).of(self.name)
        outcomes = [self.outcomes[number] for number in self.ids]
        refused = self.batch and isinstance(outcomes[0], RpcError)
        return batch_results(outcomes, self.name) if refused else outcomes

    def drop(self) -> None:
        """Drop what still comes."""
        if not self.done.is_set():
            for number in self.ids:
                self._waiting.pop(number, None)


class Exchanges:
    """The exchanges of one connection by question, and what takes the pushes of each subscription."""

    def __init__(self) -> None:
        self.waiting: dict[int, RpcExchange] = {}
        """The oldest first."""
        self.subscriptions: dict[str, Callable[[bytes], None]] = {}
        self.next_id = 1

    def fail(self, reason: str) -> None:
        """Expect no more answers and no more pushes."""
        for exchange in list(self.waiting.values()):
            exchange.fail(reason)
        self.subscriptions.clear()

    def dispatch(self, messages: Sequence[Message]) -> None:
        """Hand on what came in one piece.

        An error that comes alone for a batch is geth's refusal of the whole, under the id of its first call.
        """
        for message in messages:
            if not isinstance(message, RpcAnswer):
                if (notify := self.subscriptions.get(message.subscription)) is not None:
                    notify(bytes(message.result))
            elif message.id is None:
                for asked in set(self.waiting.values()):
                    asked.refuse(message.outcome)
            elif (exchange := self.waiting.pop(message.id, None)) is not None:
                exchange.hear(message.id, message.outcome)
                if len(exchange.outcomes) == len(exchange.ids):
                    exchange.done.set()
                elif exchange.batch and len(messages) == 1 and isinstance(message.outcome, RpcError):
                    exchange.refuse(message.outcome)


MAX_MESSAGE = 64 * 1024 * 1024  # an answer to eth_getLogs over a whole range
RECEIVE_BYTES = 64 * 1024
MAX_SUBSCRIPTION = 256  # characters of a subscription's id; nodes give 34
OUTBOX = 256  # pieces waiting for the wire; beyond that callers wait, as they would for the wire itself
BREATH = 32  # frames of one piece that are written or read between two checkpoints
HANDSHAKE_BYTES = 4096  # received at once during the handshake: nothing limits the lines of its head
PULSE_SECONDS = 10.0  # between pings; who says nothing at all from one to the next but one is gone
PARTING_SECONDS = 1.0  # for the answer to the server's closing

FOREIGN_ERRORS = (NoWebsocket, trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class WebSocketLink:
    """One connection, from its handshake to its end. Made by ``run_websocket``."""

    def __init__(self, origin: str, wire: WebSocketWire) -> None:
        self.ended = trio.Event()
        self.reason = ""
        self.origin, self._wire, self._exchanges = origin, wire, Exchanges()
        self._written = trio.Event()
        self._heard = trio.current_time()
        self._outbox, self._frames = trio.open_memory_channel[bytes](OUTBOX)

    async def exchange(self, calls: Sequence[Call], *, batch: bool) -> list[Any]:
        """Ask in one frame and return an outcome for each call: a JSON result or an RpcError.

        Raises Unreachable when the connection ends before all are answered.
        Cancellation: at any time; what comes late is dropped. Repeating: the caller's question.
        """
        exchange = RpcExchange(self._exchanges, calls, batch=batch)
        message = encode(exchange.ids.start, calls, batch=batch)
        try:
            try:
                self._outbox.send_nowait(client_frame(TEXT, message))
            except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                await self._send([message])  # which waits, or says why nothing is sent
            return await exchange.results()
        finally:
            exchange.drop()

    def send(self, calls: Sequence[Call], name: str) -> RpcExchange | None:
        """Send a batch at once and return the exchange, which must be dropped in the end; None where the wire takes none now."""
        exchange = RpcExchange(self._exchanges, calls, name, batch=True)
        try:
            self._outbox.send_nowait(client_frame(TEXT, encode(exchange.ids.start, calls, batch=True)))
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            exchange.drop()
            return None
        return exchange

    async def each(self, calls: Sequence[Call], take: Take) -> None:
        """Ask each in a frame of its own, all in one piece; ``take`` gets the outcome of each with its place, in the reading task.

        Unreachable stands for those that were not answered when the connection ended.
        Cancellation: at any time; ``take`` has had what had come, and what comes late is dropped. Repeating: the caller's question.
        """
        exchange = RpcExchange(self._exchanges, calls, batch=False, take=take)
        questions = zip(exchange.ids, calls, strict=True)
        try:
            await self._send(encode(number, [call], batch=False) for number, call in questions)
            await exchange.done.wait()
        except Unreachable as error:
            exchange.fail(str(error))
        finally:
            exchange.drop()
        if exchange.failure is not None:
            exchange.refuse(Unreachable(exchange.failure))

    async def _send(self, messages: Iterable[bytes]) -> None:
        """Have messages written in one piece; waits only while too many are before them. Raises Unreachable."""
        frames: list[bytes] = []
        try:
            for message in messages:
                frames.append(client_frame(TEXT, message))
                if len(frames) % BREATH == 0:
                    await trio.lowlevel.checkpoint()
            data = b"".join(frames)
            try:
                self._outbox.send_nowait(data)
            except trio.WouldBlock:
                await self._outbox.send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Unreachable(self.reason) from error

    async def subscribe(self, subscription: Sequence[Any], notify: Callable[[bytes], None]) -> str:
        """Subscribe and return the subscription's id; ``notify`` gets each push, JSON text, in the reading task: it must not block.

        Raises RpcError, Overloaded, Unreachable. Pushes between the answer and the return may be missed.
        """
        (outcome,) = await self.exchange([Call("eth_subscribe", tuple(subscription))], batch=False)
        identifier = call_result(outcome)
        if not isinstance(identifier, str) or not 0 < len(identifier) <= MAX_SUBSCRIPTION:
            raise Unreachable(f"{self.origin}: eth_subscribe gave no id of a subscription")
        self._exchanges.subscriptions[identifier] = notify
        return identifier

    def forget(self, identifier: str) -> None:
        """Drop the pushes of a subscription."""
        self._exchanges.subscriptions.pop(identifier, None)

    def drop(self, reason: str) -> None:
        """Give the connection up: all waiting calls fail with ``reason``, and its tasks end."""
        if self.ended.is_set():
            return
        self.reason = f"{self.origin}: {clean(reason)}"
        self._exchanges.fail(self.reason)
        self._outbox.close()
        self.ended.set()

    # The tasks of a connection.

    async def watch(self) -> None:
        """Return at the connection's end, and end it when a question has no answer for ``RPC_CALL_TIMEOUT`` seconds.

        One watch for all questions: the oldest is the first in the dict, and a later one has more time.
        """
        while not self.ended.is_set():
            oldest, now = next(iter(self._exchanges.waiting.values()), None), trio.current_time()
            until = (now if oldest is None else oldest.since) + RPC_CALL_TIMEOUT
            if oldest is not None and now >= until:
                self.drop(f"no answer to {oldest.method} in {RPC_CALL_TIMEOUT:g} s")
            with trio.move_on_at(until):
                await self.ended.wait()

    async def pulse(self) -> None:
        """Ping for ever, and end the connection when the peer has been silent over two pings."""
        while True:
            await trio.sleep(PULSE_SECONDS)
            if trio.current_time() - self._heard > 2 * PULSE_SECONDS:
                self.drop(f"silent for {2 * PULSE_SECONDS:g} s")
            self._owe(client_frame(PING, b""))

    async def read(self, stream: trio.abc.Stream) -> None:
        """Read until the server closes or sends what is no JSON-RPC over a websocket; first what came behind its handshake."""
        data = b""
        try:
            while True:
                for count, message in enumerate(self._wire.receive(data, self._owe), 1):
                    if message is not None:
                        self._exchanges.dispatch(decode(message))
                    if count % BREATH == 0 and self._wire.ended is None:
                        await trio.lowlevel.checkpoint()
                if self._wire.ended is not None:
                    break
                data = bytes(await stream.receive_some(RECEIVE_BYTES))
                self._heard = trio.current_time()
                if not data:
                    self.drop("closed")
                    return
        except Unreachable as error:
            self.drop(str(error))
        except FOREIGN_ERRORS as error:
            self.drop(_describe(error))
        else:
            await self._part(self._wire.ended or "")

    def _owe(self, frame: bytes) -> None:
        """Send a control frame, unless the wire is full: then the server does not read, and hears of us later."""
        with suppress(trio.WouldBlock, trio.ClosedResourceError):
            self._outbox.send_nowait(frame)

    async def _part(self, reason: str) -> None:
        """End, but give the answer to the server's closing a moment to leave."""
        self.reason = f"{self.origin}: {clean(reason)}"
        self._outbox.close()
        with trio.move_on_after(PARTING_SECONDS):
            await self._written.wait()
        self.drop(reason)

    async def write(self, stream: trio.abc.Stream) -> None:
        """Send frames, those that wait together, until there are no more or the connection breaks."""
        try:
            async for data in self._frames:
                pieces = [data]
                with suppress(trio.WouldBlock, trio.EndOfChannel):
                    while True:
                        pieces.append(self._frames.receive_nowait())
                await stream.send_all(b"".join(pieces))
        except FOREIGN_ERRORS as error:
            self.drop(_describe(error))
        self._written.set()


def _describe(error: Exception) -> str:
    if isinstance(error, NoWebsocket):
        return str(error)
    return f"{type(error).__name__} {words_of(error)}".rstrip()


async def run_websocket(  # noqa: ASYNC128 - hands its task_status on
    dial: Dial, url: str, *, task_status: trio.TaskStatus[WebSocketLink] = trio.TASK_STATUS_IGNORED
) -> None:
    """Connect, report the link as started, and serve it until it ends or is dropped.

    Raises Unreachable when there is no websocket at that URL; after the start, an end is told by ``link.ended`` and
    ``link.reason`` only. Cancellation: ends the connection at once, and all waiting calls with it.
    """
    parsed = parse(url)
    try:
        wire = WebSocketWire(parsed, MAX_MESSAGE)
        stream = await dial(parsed.host, parsed.port, tls=parsed.tls)
    except (NoWebsocket, OSError) as error:
        raise Unreachable(f"{parsed.origin}: {_describe(error)}") from error
    link = WebSocketLink(parsed.origin, wire)
    try:
        await _shake_hands(stream, wire, parsed.origin)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.read, stream)
            nursery.start_soon(link.write, stream)
            nursery.start_soon(link.pulse)
            task_status.started(link)
            await link.watch()
            nursery.cancel_scope.cancel()
    finally:
        link.drop("closed here")
        # a cancellation would take the place of what is raised
        with trio.move_on_after(PARTING_SECONDS, shield=True):
            await trio.aclose_forcefully(stream)


async def _shake_hands(stream: trio.abc.Stream, wire: WebSocketWire, origin: str) -> None:
    """Open the websocket. Raises Unreachable."""
    try:
        await stream.send_all(wire.request)
        while True:
            data = await stream.receive_some(HANDSHAKE_BYTES)
            if not data:
                raise NoWebsocket("hung up during the handshake")
            if wire.opens(bytes(data)):
                return
    except FOREIGN_ERRORS as error:
        raise Unreachable(f"{origin}: {clean(_describe(error))}") from error
