"""A node of an emulated chain on its connections: HTTP, and websockets with heads and logs pushed; and several nodes behind one URL.

A websocket answers requests in order of arrival, with one writer. What is pushed is the difference between the blocks told so far and
the node's present view, so that blocks, bursts, reorganisations and a node that changes its mind are one case. A slow reader holds back
its own session only. What a method answers is in ``rpc_methods``; how a node's faults spoil that, here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from random import Random
from typing import Any

import attrs
import msgspec
import trio

from kmsconn.emulator.blocks import Block
from kmsconn.emulator.chain import EmulatedChain, NodeStanding
from kmsconn.emulator.evm import NodeView
from kmsconn.emulator.http import HangUp, HttpRequest, HttpResponse, serve_http
from kmsconn.emulator.node_faults import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    LIMIT_EXCEEDED,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    SLOW_SECONDS,
    NodeError,
    NodeFault,
)
from kmsconn.emulator.rpc_json import LogFilter, block_json, log_json
from kmsconn.emulator.rpc_methods import METHODS, Later
from kmsconn.emulator.websocket import WebSocket, WebSocketClosed

JSON_HEADERS = (("content-type", "application/json"),)
_REFUSALS = {
    NodeFault.RATE_LIMITED: HttpResponse(429, (), b"too many requests"),
    NodeFault.BAD_GATEWAY: HttpResponse(502, (), b"bad gateway"),
    NodeFault.UNAVAILABLE: HttpResponse(503, (), b"unavailable"),
    NodeFault.NOT_JSON: HttpResponse(200, (("content-type", "text/html"),), b"<html>welcome</html>"),
}
"""What HTTP says in place of an answer."""
SessionMethods = Mapping[str, Callable[[list[Any]], Any]]
"""What only a connection that can be notified has: ``eth_subscribe`` and ``eth_unsubscribe``."""
_NONE: SessionMethods = {}


@attrs.frozen
class Carried:
    """A request that was carried out: its id, and its result, its error, or what it still waits for."""

    id: Any
    result: Any = None
    error: NodeError | None = None
    later: Later | None = None

    async def finish(self) -> dict[str, Any]:
        """Wait if necessary and return the JSON-RPC answer."""
        if self.later is None:
            return self.as_json()
        try:
            return Carried(self.id, await self.later()).as_json()
        except NodeError as error:
            return Carried(self.id, error=error).as_json()

    def as_json(self) -> dict[str, Any]:
        """Return the JSON-RPC answer of a request that waits for nothing."""
        head = {"jsonrpc": "2.0", "id": self.id}
        return head | ({"result": self.result} if self.error is None else {"error": self.error.as_json()})


class Begun:
    """The requests of a message, carried out one by one: the next one when the one before is answered, as nodes do.

    ``requests`` carries one out with each step; those up to the first that waits are carried out here. ``alone``: there is one, in no
    batch.
    """

    def __init__(self, requests: Iterable[Carried], *, alone: bool = False) -> None:
        self.alone = alone
        self._requests = iter(requests)
        self._begun: list[Carried] = []
        for one in self._requests:
            self._begun.append(one)
            if one.later is not None:
                break

    @property
    def waits(self) -> bool:
        """Tell whether the answers are not there yet."""
        return self._begun[-1].later is not None

    def all(self) -> Iterator[Carried]:
        """Yield every request, carried out by the time it comes."""
        yield from self._begun
        for one in self._requests:
            self._begun.append(one)
            yield one


class AnsweringNode(NodeStanding):
    """One node: its knobs, and the answers that it gives with them."""

    async def answer(self, body: bytes) -> bytes:
        """Answer a JSON-RPC request or batch. Raises HangUp when the connection is to be closed instead."""
        await trio.lowlevel.checkpoint()
        return await self.finish(self.begin(body))

    def begin(self, body: bytes | str, own: SessionMethods = _NONE) -> Begun:
        """Carry out a request, or a batch up to the first request that waits. Raises HangUp."""
        try:
            content = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Begun([Carried(None, error=NodeError(PARSE_ERROR, f"parse error: {error}"))], alone=True)
        if not isinstance(content, list) or not content:
            return Begun([self._begin_one(content, own)], alone=True)
        if self.limits.batch is not None and len(content) > self.limits.batch:
            return Begun([_too_large(content)])
        return Begun(self._begin_one(request, own) for request in content)

    def _begin_one(self, request: Any, own: SessionMethods) -> Carried:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return Carried(None, error=NodeError(INVALID_REQUEST, "invalid request"))
        method, params = request["method"], request.get("params") or []
        self.calls[method] += 1
        try:
            honest = partial(self._carry_out, method, params, own)
            fault = self.faults.of_call(method, params)
            result = honest() if fault is None else fault.act(method, honest)
        except NodeError as error:
            return Carried(request.get("id"), error=error)
        if callable(result):
            return Carried(request.get("id"), later=result)
        return Carried(request.get("id"), result)

    def _carry_out(self, method: str, params: list[Any], own: SessionMethods) -> Any:
        if method in own:
            return own[method](params)
        function = None if method in self.limits.unsupported else METHODS.get(method)
        if function is None:
            raise NodeError(METHOD_NOT_FOUND, f"the method {method} does not exist/is not available")
        return function(self, params)

    async def finish(self, begun: Begun) -> bytes:
        """Wait for each of what was begun in turn and return the bytes of the answer, with the faults that spoil it."""
        answers = [self._spoiled(await one.finish()) for one in begun.all()]
        if not begun.alone and self.faults.happens(NodeFault.SHUFFLED):
            answers.reverse()
        text = msgspec.json.encode(answers[0] if begun.alone else answers)
        return text[: len(text) // 2] if self.faults.happens(NodeFault.TRUNCATED) else text

    def _spoiled(self, answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "id": 999_999_937} if self.faults.happens(NodeFault.WRONG_ID) else answer

    async def http(self, request: HttpRequest) -> HttpResponse:
        """Answer one HTTP request. Raises HangUp."""
        refusal = next((answer for fault, answer in _REFUSALS.items() if self.faults.happens(fault)), None)
        if self.faults.happens(NodeFault.HANG_UP):
            raise HangUp
        if self.faults.happens(NodeFault.HANG):
            await trio.sleep_forever()
        if self.faults.happens(NodeFault.SLOW):
            await trio.sleep(SLOW_SECONDS)
        return refusal or HttpResponse(200, JSON_HEADERS, await self.answer(request.body))

    def pushed(self, content: Any) -> Any:
        """Return what is pushed for a new head or a log."""
        return content


def _too_large(batch: list[Any]) -> Carried:
    """Refuse a batch as geth does: with one error, under the id of the first call."""
    first = batch[0].get("id") if isinstance(batch[0], dict) else None
    return Carried(first, error=NodeError(INVALID_REQUEST, "batch too large"))


_QUEUE = 64  # answers and notifications that wait for the writer; beyond, the session waits
_WAITING = 1_000  # requests that wait for a block or a slow answer; beyond, the session reads no more
_REMEMBERED = 256  # blocks told, to be taken back in a reorganisation


@attrs.define
class _Subscription:
    id: str
    wanted: LogFilter | None  # None: new heads
    told: bool = False  # its id was answered: from now on it is notified

    def contents(self, chain: EmulatedChain, block: Block, *, removed: bool) -> list[Any]:
        """Return what it is told of a block that came, or was removed."""
        if self.wanted is None:
            return [] if removed else [_head(chain, block)]
        there = ((log, mined) for mined in block.mined for log in mined.logs if self.wanted.takes(log))
        return [log_json(log, mined, removed=removed) for log, mined in there]


def _head(chain: EmulatedChain, block: Block) -> Any:
    return block_json(block, chain_id=chain.chain_id, gas_limit=chain.intake.gas_limit, full=False)


class _ToldBlocks:
    """The blocks that one session was told, against what its node shows now."""

    def __init__(self, view: Callable[[], NodeView]) -> None:
        self._view = view
        self._known: deque[Block] = deque([view().head], _REMEMBERED)
        self._lowest_left = 0  # where to go on when every remembered block was left

    def difference(self) -> tuple[list[Block], list[Block]]:
        """Return the told blocks that the node left, newest first, and the new ones, oldest first; note them as told.

        A head that goes backward is no news.
        """
        view = self._view()
        if any(block.hash == view.head.hash for block in self._known):
            return [], []
        removed: list[Block] = []
        while self._known and not _holds(view, self._known[-1]):
            removed.append(self._known.pop())
            self._lowest_left = removed[-1].number
        start = self._known[-1].number + 1 if self._known else self._lowest_left
        added = [block for n in range(start, view.head.number + 1) if (block := view.block(n)) is not None]
        self._known.extend(added)
        return removed, added


def _holds(view: NodeView, block: Block) -> bool:
    there = view.block(block.number)
    return there is not None and there.hash == block.hash


class _Session:
    def __init__(self, node: AnsweringNode, connection: WebSocket) -> None:
        self._node = node
        self._connection = connection
        self._subscriptions: dict[str, _Subscription] = {}
        self._count = 0
        self._silent = False
        self._blocks = _ToldBlocks(node.view)
        self._places = trio.Semaphore(_WAITING)
        self._outgoing, self._queue = trio.open_memory_channel[bytes](_QUEUE)
        self._methods = {"eth_subscribe": self.subscribe, "eth_unsubscribe": self.unsubscribe}

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, nursery.cancel_scope)
            nursery.start_soon(self._push)
            await self._read(nursery)
            nursery.cancel_scope.cancel()

    def subscribe(self, params: list[Any]) -> str:
        """Begin a subscription to ``newHeads`` or ``logs``. Raises NodeError."""
        kind = params[0] if params else None
        if kind not in {"newHeads", "logs"}:
            raise NodeError(METHOD_NOT_FOUND, f'no "{kind}" subscription in eth namespace')
        self._count += 1
        named = params[1] if len(params) > 1 and params[1] else {}
        wanted = LogFilter.parse(named) if kind == "logs" else None
        name = f"0x{self._count:032x}"  # 16 bytes: no result of another method looks like it
        self._subscriptions[name] = _Subscription(name, wanted)
        return name

    def unsubscribe(self, params: list[Any]) -> bool:
        """End a subscription. Raises NodeError."""
        if not params:
            raise NodeError(INVALID_PARAMS, "missing value for required argument 0")
        return self._subscriptions.pop(params[0], None) is not None

    async def _read(self, nursery: trio.Nursery) -> None:
        try:
            while True:
                await self._take(await self._connection.get_message(), nursery)
        except (WebSocketClosed, HangUp):
            return

    async def _take(self, message: bytes | str, nursery: trio.Nursery) -> None:
        faults = self._node.faults
        if faults.happens(NodeFault.HANG_UP):
            raise HangUp
        if faults.happens(NodeFault.HANG):
            return
        delay = SLOW_SECONDS if faults.happens(NodeFault.SLOW) else 0.0
        begun = self._node.begin(message, self._methods)
        if faults.happens(NodeFault.RATE_LIMITED):
            error = NodeError(LIMIT_EXCEEDED, "rate limit exceeded")
            begun = Begun([Carried(one.id, error=error) for one in begun.all()], alone=begun.alone)
        if delay or begun.waits:
            await self._places.acquire()
            nursery.start_soon(self._finish_later, begun, delay)
        else:
            await self._finish(begun)

    async def _finish_later(self, begun: Begun, delay: float) -> None:
        await trio.sleep(delay)
        await self._finish(begun)
        self._places.release()

    async def _finish(self, begun: Begun) -> None:
        await self._outgoing.send(await self._node.finish(begun))
        for one in begun.all():
            if isinstance(one.result, str) and one.result in self._subscriptions:
                self._subscriptions[one.result].told = True

    async def _write(self, scope: trio.CancelScope) -> None:
        try:
            async for first in self._queue:
                there = self._queue.statistics().current_buffer_used
                waiting = [first, *(self._queue.receive_nowait() for _ in range(there))]
                told = [_as_text(one) for one in waiting if not self._falls_silent()]
                await self._connection.send_messages(told)
        except WebSocketClosed:
            scope.cancel()

    def _falls_silent(self) -> bool:
        self._silent = self._silent or self._node.faults.happens(NodeFault.SILENT_SOCKET)
        return self._silent

    async def _push(self) -> None:
        while True:
            removed, added = self._blocks.difference()
            if not removed and not added:
                await self._node.chain.wait_change()
            for block in removed:
                await self._tell(block, removed=True)
            for block in added:
                await self._tell(block, removed=False)

    async def _tell(self, block: Block, *, removed: bool) -> None:
        for subscription in list(self._subscriptions.values()):
            if not subscription.told:
                continue
            for content in subscription.contents(self._node.chain, block, removed=removed):
                await self._notify(subscription.id, content)

    async def _notify(self, subscription: str, content: Any) -> None:
        params = {"subscription": subscription, "result": self._node.pushed(content)}
        message = msgspec.json.encode({"jsonrpc": "2.0", "method": "eth_subscription", "params": params})
        if self._node.faults.happens(NodeFault.LOST_PUSH):
            return
        for _ in range(1 + self._node.faults.happens(NodeFault.DUPLICATE_PUSH)):
            await self._outgoing.send(message)


def _as_text(message: bytes) -> str | bytes:
    """Return an answer as the text that it is; as bytes where a hostile node's is none."""
    try:
        return message.decode()
    except UnicodeDecodeError:
        return message


class RpcNode(AnsweringNode):
    """One node: its knobs, its answers, and its connections."""

    async def websocket(self, connection: WebSocket) -> None:
        """Serve one websocket until either side ends it."""
        await _Session(self, connection).run()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, HTTP or websocket."""
        await serve_http(stream, self.http, websocket=self.websocket)


class Cluster:
    """Several nodes behind one URL: each HTTP request, and each websocket, meets one of them by chance."""

    def __init__(self, nodes: list[RpcNode], *, seed: int = 0) -> None:
        self.nodes = nodes
        self._random = Random(seed)

    def pick(self) -> RpcNode:
        """Return one node by chance."""
        return self._random.choice(self.nodes)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, as a node does."""
        await serve_http(stream, self._http, websocket=self.pick().websocket)

    async def _http(self, request: HttpRequest) -> HttpResponse:
        return await self.pick().http(request)
