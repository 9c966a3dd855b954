"""A node of an emulated chain: JSON-RPC over HTTP and websocket, single and in batches; and several nodes behind one URL.

What a method answers is in ``rpc_methods``, what a subscription sends in ``rpc_push``.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any, Literal, Protocol

import msgspec
import trio

from kmsconn.emulator.http import HangUp, HttpRequest, HttpResponse, serve_http
from kmsconn.emulator.node_error import (
    INVALID_REQUEST,
    LIMIT_EXCEEDED,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    NodeError,
)
from kmsconn.emulator.node_faults import NodeFault
from kmsconn.emulator.node_standing import NodeStanding
from kmsconn.emulator.rpc_begun import Begun, BegunBatch
from kmsconn.emulator.rpc_methods import METHODS
from kmsconn.emulator.rpc_push import serve_websocket
from kmsconn.emulator.websocket import WebSocket

JSON_HEADERS = (("content-type", "application/json"),)
TOO_MANY_REQUESTS, BAD_GATEWAY, UNAVAILABLE = 429, 502, 503
_HTML = HttpResponse(200, (("content-type", "text/html"),), b"<html><body>welcome</body></html>")


class Subscriptions(Protocol):
    """What a connection that can be notified offers."""

    def subscribe(self, params: list[Any]) -> str:
        """Begin a subscription and return its id. Raises NodeError."""
        ...

    def unsubscribe(self, params: list[Any]) -> bool:
        """End a subscription; tell whether there was one. Raises NodeError."""
        ...


class RpcNode(NodeStanding):
    """One node: its knobs, and the answers that it gives with them."""

    async def answer(self, body: bytes) -> bytes:
        """Answer a JSON-RPC request or batch. Raises HangUp when the connection is to be closed instead."""
        await trio.lowlevel.checkpoint()
        return await self.finish(self.begin(body))

    def begin(self, body: bytes | str, subscriptions: Subscriptions | None = None) -> Begun | BegunBatch:
        """Carry out a request, or a batch up to the first request that waits. Raises HangUp."""
        try:
            content = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Begun(None, error=NodeError(PARSE_ERROR, f"parse error: {error}"))
        if isinstance(content, list) and content:
            if self.limits.batch is not None and len(content) > self.limits.batch:
                return BegunBatch(iter([_too_large(content)]))
            return BegunBatch(self._begin_one(request, subscriptions) for request in content)
        return self._begin_one(content, subscriptions)

    def _begin_one(self, request: Any, subscriptions: Subscriptions | None) -> Begun:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return Begun(None, error=NodeError(INVALID_REQUEST, "invalid request"))
        method, params = request["method"], request.get("params") or []
        self.calls[method] += 1
        try:
            honest = partial(self._carry_out, method, params, subscriptions)
            rule = self.faults.rule_for(method, params)
            result = honest() if rule is None else rule.act(honest)
        except NodeError as error:
            return Begun(request.get("id"), error=error)
        if callable(result):
            return Begun(request.get("id"), later=result)
        return Begun(request.get("id"), result)

    def _carry_out(self, method: str, params: list[Any], subscriptions: Subscriptions | None) -> Any:
        error = self.faults.error_for(method)
        if error is not None:
            raise error
        if subscriptions is not None and method in {"eth_subscribe", "eth_unsubscribe"}:
            return (
                subscriptions.subscribe(params)
                if method == "eth_subscribe"
                else subscriptions.unsubscribe(params)
            )
        function = None if method in self.limits.unsupported else METHODS.get(method)
        if function is None:
            raise NodeError(METHOD_NOT_FOUND, f"the method {method} does not exist/is not available")
        return function(self, params)

    async def finish(self, begun: Begun | BegunBatch) -> bytes:
        """Wait for what was begun and return the bytes of the answer, with the faults that spoil it."""
        if isinstance(begun, Begun):
            answer: Any = self._spoiled(await begun.finish())
        else:
            answer = [self._spoiled(one) for one in await begun.finish()]
            if self.faults.happens(NodeFault.SHUFFLED):
                answer = answer[::-1]
        text = msgspec.json.encode(answer)
        return text[: len(text) // 2] if self.faults.happens(NodeFault.TRUNCATED) else text

    def _spoiled(self, answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "id": 999_999_937} if self.faults.happens(NodeFault.WRONG_ID) else answer

    async def http(self, request: HttpRequest) -> HttpResponse:
        """Answer one HTTP request. Raises HangUp."""
        refusal = self._http_refusal()
        if self.faults.happens(NodeFault.HANG_UP):
            raise HangUp
        if self.faults.happens(NodeFault.HANG):
            await trio.sleep_forever()
        if self.faults.happens(NodeFault.SLOW):
            await trio.sleep(self.faults.slow_seconds)
        return refusal or HttpResponse(200, JSON_HEADERS, await self.answer(request.body))

    def _http_refusal(self) -> HttpResponse | None:
        after = self.faults.retry_after
        headers = () if after is None else (("retry-after", f"{after:g}"),)
        if self.faults.happens(NodeFault.RATE_LIMITED):
            return HttpResponse(TOO_MANY_REQUESTS, headers, b"too many requests")
        if self.faults.happens(NodeFault.BAD_GATEWAY):
            return HttpResponse(BAD_GATEWAY, (), b"bad gateway")
        if self.faults.happens(NodeFault.UNAVAILABLE):
            return HttpResponse(UNAVAILABLE, headers, b"unavailable")
        return _HTML if self.faults.happens(NodeFault.NOT_JSON) else None

    async def websocket(self, connection: WebSocket) -> None:
        """Serve one websocket until either side ends it."""
        await serve_websocket(self, connection)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, HTTP or websocket."""
        await serve_http(stream, self.http, websocket=self.websocket)

    def pushed(self, content: Any) -> Any:
        """Return what is pushed for a new head or a log."""
        return content

    def rate_limit(self, begun: Begun | BegunBatch) -> Begun | BegunBatch:
        """Return what a websocket says instead when it is rate limited."""
        error = NodeError(LIMIT_EXCEEDED, "rate limit exceeded")
        if isinstance(begun, Begun):
            return Begun(begun.id, error=error)
        return BegunBatch(Begun(one.id, error=error) for one in list(begun.all()))


def _too_large(batch: list[Any]) -> Begun:
    """Refuse a batch as geth does: with one error, under the id of the first call."""
    first = batch[0].get("id") if isinstance(batch[0], dict) else None
    return Begun(first, error=NodeError(INVALID_REQUEST, "batch too large"))


class Cluster:
    """Several nodes behind one URL: each connection, or each HTTP request, meets one of them by chance.

    A websocket keeps its node in both cases.
    """

    def __init__(
        self, nodes: list[RpcNode], *, seed: int = 0, per: Literal["connection", "request"] = "request"
    ) -> None:
        self.nodes = nodes
        self.per = per
        self._random = Random(seed)

    def pick(self) -> RpcNode:
        """Return one node by chance."""
        return self._random.choice(self.nodes)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, as a node does."""
        node = self.pick()
        handler = node.http if self.per == "connection" else self._http
        await serve_http(stream, handler, websocket=node.websocket)

    async def _http(self, request: HttpRequest) -> HttpResponse:
        return await self.pick().http(request)
