"""A node of an emulated chain on its connections: HTTP, and websockets with heads and logs pushed; and several nodes behind one URL.

A websocket answers requests in order of arrival, with one writer. What is pushed is the difference between the blocks told so far and
the node's present view, so that blocks, bursts, reorganisations and a node that changes its mind are one case. A slow reader holds back
its own session only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import attrs
import msgspec
import trio

from kmsconn.emulator.blocks import Block
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.evm import NodeView
from kmsconn.emulator.http import HangUp, HttpRequest, HttpResponse, serve_http
from kmsconn.emulator.node_faults import INVALID_PARAMS, METHOD_NOT_FOUND, SLOW_SECONDS, NodeError, NodeFault
from kmsconn.emulator.rpc_answers import AnsweringNode, Begun
from kmsconn.emulator.rpc_json import LogFilter, block_json, log_json
from kmsconn.emulator.websocket import WebSocket, WebSocketClosed

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
        return [
            log_json(log, mined, removed=removed)
            for mined in block.mined
            for log in mined.logs
            if self.wanted.takes(log)
        ]


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
        wanted = (
            LogFilter.parse(params[1] if len(params) > 1 and params[1] else {}) if kind == "logs" else None
        )
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
        begun = self._begin(message)
        if delay or begun.waits:
            await self._places.acquire()
            nursery.start_soon(self._finish_later, begun, delay)
        else:
            await self._finish(begun)

    def _begin(self, message: bytes | str) -> Begun:
        begun = self._node.begin(message, self._methods)
        return self._node.rate_limit(begun) if self._node.faults.happens(NodeFault.RATE_LIMITED) else begun

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
                waiting = [first, *_all_of(self._queue)]
                await self._connection.send_messages(
                    [_as_text(one) for one in waiting if not self._falls_silent()]
                )
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


def _all_of(queue: trio.MemoryReceiveChannel[bytes]) -> list[bytes]:
    """Return what waits in a queue now."""
    return [queue.receive_nowait() for _ in range(queue.statistics().current_buffer_used)]


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
