"""What a node answers to a JSON-RPC request or batch, over HTTP or for a websocket's session, and how its faults spoil that.

What a method answers is in ``rpc_methods``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import attrs
import msgspec
import trio

from kmsconn.emulator.chain import NodeStanding
from kmsconn.emulator.http import HangUp, HttpRequest, HttpResponse
from kmsconn.emulator.node_faults import (
    INVALID_REQUEST,
    LIMIT_EXCEEDED,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    SLOW_SECONDS,
    NodeError,
    NodeFault,
)
from kmsconn.emulator.rpc_methods import METHODS, Later

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
        return (
            {**head, "result": self.result} if self.error is None else {**head, "error": self.error.as_json()}
        )


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

    def rate_limit(self, begun: Begun) -> Begun:
        """Return what a websocket says instead when it is rate limited."""
        error = NodeError(LIMIT_EXCEEDED, "rate limit exceeded")
        return Begun([Carried(one.id, error=error) for one in begun.all()], alone=begun.alone)


def _too_large(batch: list[Any]) -> Carried:
    """Refuse a batch as geth does: with one error, under the id of the first call."""
    first = batch[0].get("id") if isinstance(batch[0], dict) else None
    return Carried(first, error=NodeError(INVALID_REQUEST, "batch too large"))
