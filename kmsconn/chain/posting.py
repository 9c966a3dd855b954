"""JSON-RPC by HTTP POST, where there is no websocket. Never repeats a request, never pushes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import trio

from kmsconn.chain.jsonrpc import Complaint, RpcAnswer, decode, encode
from kmsconn.chain.port import RPC_CALL_TIMEOUT, Call
from kmsconn.errors import KmsconnError, Unreachable
from kmsconn.transport.http import HttpClient, status_error
from kmsconn.transport.urls import show_origin

_CLIENT_ERROR, _SERVER_ERROR = 400, 500


class HttpLink:
    """One URL, from the first question to the first failure."""

    def __init__(self, http: HttpClient, url: str) -> None:
        self.ended = trio.Event()
        self.reason = ""
        self._http, self._url, self.origin = http, url, show_origin(url)
        self._next_id = 1

    async def exchange(self, calls: Sequence[Call], *, batch: bool) -> list[Any]:
        """Ask in one request. Any failure ends the link, and so does an answer that does not come.

        Raises Unreachable, Overloaded. Cancellation: at any time. Repeating: the caller's question.
        """
        ids = range(self._next_id, self._next_id + len(calls))
        self._next_id = ids.stop
        try:
            with trio.move_on_after(RPC_CALL_TIMEOUT):
                return self._outcomes(await self._post(encode(ids.start, calls, batch=batch)), ids)
        except Unreachable as error:
            self.drop(str(error))
            raise
        self.drop(f"{self.origin}: no answer to {calls[0].method} in {RPC_CALL_TIMEOUT:g} s")
        raise Unreachable(self.reason)

    async def each(self, calls: Sequence[Call], take: Callable[[int, Any], None]) -> None:
        """Ask each in a request of its own. Cancellation: at any time. Repeating: the caller's question."""

        async def ask(index: int, call: Call) -> None:
            try:
                take(index, *await self.exchange([call], batch=False))
            except KmsconnError as error:
                take(index, error)

        async with trio.open_nursery() as nursery:
            for index, call in enumerate(calls):
                nursery.start_soon(ask, index, call)
                await trio.lowlevel.checkpoint()  # Trio starts tasks of one moment in any order

    async def _post(self, body: bytes) -> bytes:
        response = await self._http.post(self._url, body, {"content-type": "application/json"})
        refusal = status_error(response.status, self.origin)
        if refusal is not None and not (response.status == _SERVER_ERROR and response.body.startswith(b"{")):
            raise refusal  # some nodes send their JSON-RPC errors with a 500
        if response.status >= _CLIENT_ERROR and not response.body.lstrip().startswith((b"{", b"[")):
            raise Unreachable(f"{self.origin}: HTTP {response.status}")
        return response.body

    def _outcomes(self, body: bytes, ids: range) -> list[Any]:
        messages = decode(body)
        outcomes = {
            message.id: message.outcome for message in reversed(messages) if isinstance(message, RpcAnswer)
        }
        complaint = next((message.error for message in messages if isinstance(message, Complaint)), None)
        if complaint is None and not all(number in outcomes for number in ids):
            raise Unreachable(f"{self.origin}: the answer lacks results for some calls")
        return [outcomes.get(number, complaint) for number in ids]

    def drop(self, reason: str) -> None:
        """Give the link up; requests on their way are not disturbed."""
        if not self.ended.is_set():
            self.reason = reason
            self.ended.set()
