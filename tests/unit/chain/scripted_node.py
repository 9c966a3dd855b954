"""A scripted JSON-RPC node over memory streams, by websocket and by HTTP, with a Dial that knows several of them by host name.

``FakeRpc`` is one without streams.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import trio
import trio.testing
import trio_websocket

from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import Retryable
from kmsconn.transport.ports import Ports, offload_inline
from tests.unit.transport.scripted_http import Asked, Reply, serve_http_stream

CHAIN_ID = 54321


class Raw(str):
    """Text that a node sends as it is."""

    __slots__ = ()


class Refusal(Exception):  # noqa: N818 - it is what the node says
    """A JSON-RPC error object."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, **({} if data is None else {"data": data})}


Method = Callable[..., Any]


class Node:
    """Answers ``methods``; ``None`` as a value of ``answers`` means: hang."""

    def __init__(self, chain_id: int = CHAIN_ID) -> None:
        self.asked: list[tuple[str, list[Any]]] = []
        self.frames: list[Any] = []
        self.heard: list[Any] = []
        """Frames in the order of their coming; ``frames`` has them in the order in which they were begun."""
        self.connections: list[trio_websocket.WebSocketConnection] = []
        self.methods: dict[str, Method] = {
            "eth_chainId": lambda: hex(self.chain_id),
            "echo": lambda value: value,
            "eth_subscribe": self._subscribe,
        }
        self.chain_id = chain_id
        self.hang: set[str] = set()
        self.up = True
        self.websocket = True
        self.status = 200
        self.raw: str | None = None
        self.reorder: Callable[[list[Any]], list[Any]] = lambda answers: answers
        self.dialled = 0
        self.streams: list[Any] = []
        self.on_frame: Callable[[], Awaitable[None]] | None = None
        self._subscriptions = 0

    def _subscribe(self, *params: Any) -> str:
        self._subscriptions += 1
        return hex(self._subscriptions)

    async def answer(self, frame: str | bytes) -> str | None:
        """Answer one frame; None: never."""
        question = json.loads(frame)
        self.frames.append(question)
        if self.on_frame is not None:
            await self.on_frame()
        questions = question if isinstance(question, list) else [question]
        for one in questions:
            self.asked.append((one["method"], one["params"]))
        if any(one["method"] in self.hang for one in questions):
            return None
        if self.raw is not None and questions[0]["method"] != "eth_chainId":
            return self.raw
        answers = self.reorder([self._one(one) for one in questions])
        return json.dumps(answers if isinstance(question, list) else answers[0])

    def _one(self, question: dict[str, Any]) -> dict[str, Any]:
        head = {"jsonrpc": "2.0", "id": question["id"]}
        method = self.methods.get(question["method"])
        if method is None:
            return {**head, "error": {"code": -32601, "message": "method not found"}}
        try:
            return {**head, "result": method(*question["params"])}
        except Refusal as refusal:
            return {**head, "error": refusal.error}

    async def push(self, subscription: str, result: Any) -> None:
        """Push to the newest connection."""
        params = {"subscription": subscription, "result": result}
        await self.connections[-1].send_message(
            json.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": params})
        )

    def hang_up(self) -> None:
        """Close all connections without a word."""
        for stream in self.streams:
            stream.send_stream.close()
            stream.receive_stream.close()
        self.streams.clear()
        self.connections.clear()

    # Serving.

    async def serve(self, stream: trio.abc.Stream, websocket: bool) -> None:
        self.streams.append(stream)
        if websocket:
            await self._serve_websocket(stream)
        else:
            await serve_http_stream(stream, self._http)

    async def _http(self, asked: Asked) -> Reply:
        answer = await self.answer(asked.body.decode())
        if answer is None:
            await trio.sleep_forever()
        assert answer is not None
        return Reply(self.status, answer.encode())

    async def _serve_websocket(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, stream)
            if not self.websocket:
                await request.reject(404)
                return
            connection = await request.accept()
            self.connections.append(connection)
            try:
                while True:
                    message = await connection.get_message()
                    self.heard.append(json.loads(message))
                    nursery.start_soon(self._reply, connection, message)
            except trio_websocket.ConnectionClosed:
                nursery.cancel_scope.cancel()

    async def _reply(self, connection: trio_websocket.WebSocketConnection, frame: str | bytes) -> None:
        answer = await self.answer(frame)
        if answer is not None:
            with suppress(trio_websocket.ConnectionClosed):
                await connection.send_message(answer)


def _in_turn(answers: Iterable[Any]) -> Iterator[Any]:
    return iter(answers)


@attrs.define
class FakeRpc:
    """A node that gives these answers in turn, and notes what it was asked; a failure of the whole node among them is raised."""

    answers: Iterator[Any] = attrs.field(converter=_in_turn)
    chain_id: int = 5
    batches: list[list[Call]] = attrs.field(factory=list)

    async def call(self, method: str, *params: Any) -> Any:
        [answer] = await self.batch([Call(method, params)])
        if isinstance(answer, RpcError):
            raise answer
        return answer

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        await trio.lowlevel.checkpoint()
        self.batches.append(list(calls))
        answers = [next(self.answers) for _ in calls]
        for answer in answers:
            if isinstance(answer, Retryable):
                raise answer
        return answers


class Nodes:
    """A Dial over nodes by host name; ports 80 and 443 speak HTTP, all others websocket."""

    def __init__(self, nursery: trio.Nursery, nodes: dict[str, Node]) -> None:
        self._nursery, self._nodes = nursery, nodes

    async def __call__(self, host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        node = self._nodes[host]
        node.dialled += 1
        if not node.up:
            raise ConnectionRefusedError("refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(node.serve, theirs, port not in {80, 443})
        return ours


def ports_of(dial: Any) -> Ports:
    return Ports(dial=dial, offload=offload_inline, wall=lambda: 0.0, random=lambda: 1.0)


@asynccontextmanager
async def serving(**nodes: Node) -> Any:
    """Give the Ports of a world in which these nodes are served, by their names as host names."""
    async with trio.open_nursery() as nursery:
        yield ports_of(Nodes(nursery, nodes))
        nursery.cancel_scope.cancel()
