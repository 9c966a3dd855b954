"""One request and its answer, between hypercorn and the application: the body under its bounds, the end of an early answer, the record.

An answer may be ready while the body still comes, as with a key that is not known. hypercorn closes the connection then, and with bytes
that nobody has read the system resets it: the client might never see its answer. So the answer goes out, without its formal end, and what
still comes is thrown away for a moment (RFC 9112, 9.6).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kmsconn.http_api.connections import Connection
from kmsconn.http_api.failures import FailureCode, HttpFailure
from kmsconn.http_api.limits import BodyBudget

LINGER_SECONDS: Final = 1.0
"""In which a client may notice an early answer."""
LINGER_BYTES: Final = 1 << 20
"""That are thrown away meanwhile."""

CLIENT_GONE: Final = "client_gone"
UNFINISHED: Final = "request_timeout"
NOT_ANSWERED: Final = "unfinished"

_KEY: Final = "kmsconn.exchange"
_HTTP_1: Final = frozenset({"1.0", "1.1"})


class ClientGone(Exception):  # noqa: N818 - says what happened
    """The client has closed its connection: nobody wants an answer."""


class TooSlow(Exception):  # noqa: N818 - says what happened
    """The body of a request has not come in time."""


@attrs.define(eq=False)
class ApiExchange:
    """A request that is being answered, and how it ends: what ``on_ended`` is told of it."""

    connection: Connection
    started: float
    _receive: Receive = attrs.field(repr=False)
    route: str = "other"
    code: str = NOT_ANSWERED
    client: str = ""
    decryption_id: int | None = None
    status: int = 0
    seconds: float = 0.0
    """From its head to its answer."""
    whole: bool = False
    """The body has come to its end."""
    gone: bool = False
    let_in: bool = False
    """It had a place to wait for its answer."""

    @classmethod
    def of(cls, scope: Scope) -> ApiExchange:
        """Return the exchange of a request."""
        exchange: ApiExchange = scope[_KEY]
        return exchange

    async def refuse(self, code: str) -> None:
        """Note that nothing is done for the request; return when it is its turn to be told."""
        self.code = code
        await self.connection.table.refusals.turn()

    def answer(self, status: int) -> None:
        """Note that the answer begins."""
        self.status, self.seconds = status, trio.current_time() - self.started

    async def receive(self) -> Message:
        """Receive the next part of the request, and note how far it is."""
        await self.connection.step()
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
        elif not message.get("more_body", False):
            self.whole = True
        return message

    async def read_body(self, most: int, budget: BodyBudget) -> bytes:
        """Return the body. Raises HttpFailure for one that is too large, TooSlow and ClientGone."""
        body = bytearray()
        with budget.lease() as lease, trio.move_on_at(self.connection.read_by) as reading:
            while not self.whole:
                piece = await self._piece()
                if len(body) + len(piece) > most:
                    raise HttpFailure(FailureCode.MALFORMED, f"the body has more than {most} bytes")
                lease.grow(len(piece))
                body += piece
        if reading.cancelled_caught:
            raise TooSlow
        return bytes(body)

    async def _piece(self) -> bytes:
        message = await self.receive()
        if self.gone:
            raise ClientGone
        body: bytes = message.get("body", b"")
        return body

    async def wait_gone(self) -> None:
        """Return once the client has left. The body must have been read."""
        while not self.gone:
            await self.receive()

    async def linger(self) -> None:
        """Throw away what still comes of the body, for a moment."""
        thrown = 0
        with trio.move_on_after(LINGER_SECONDS):
            while not self.whole and not self.gone and thrown < LINGER_BYTES:
                message = await self.receive()
                thrown += len(message.get("body", b""))


Ended = Callable[[ApiExchange], None]


class ExchangeMiddleware:
    """Lets an application see whole requests of HTTP/1 only, and ends each one well; ``ended`` hears of every one that did."""

    def __init__(self, app: ASGIApp, ended: Ended) -> None:
        self._app, self._ended = app, ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request. hypercorn's state of the connection holds our own one."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)  # a websocket is refused, and there is no lifespan
            return
        connection: Connection = scope["state"]["connection"]
        now = trio.current_time()
        connection.serve(now)
        exchange = ApiExchange(connection, now, receive)
        answering = _Answering(exchange, send)
        try:
            if scope["http_version"] in _HTTP_1:
                scope = {**scope, _KEY: exchange, "path": _exact_path(scope)}
                await self._app(scope, exchange.receive, answering.send)
            else:
                await _refuse_version(answering.send)
            await answering.finish()
        finally:
            answering.rest()
            self._ended(exchange)


def _exact_path(scope: Scope) -> str:
    """Return the path as it was sent: one with percent signs is another path than without."""
    path = bytes(scope["raw_path"]).decode("ascii")
    scheme, separator, rest = path.partition("://")
    if separator and "/" not in scheme:  # an absolute target (RFC 9112, 3.2.2)
        return f"/{rest.partition('/')[2]}"
    return path


async def _refuse_version(send: Send) -> None:
    """Refuse HTTP/2, which hypercorn begins where a client insists, and whose streams no limit here counts."""
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 505, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


class _Answering:
    """Sends the answer of an exchange, and its end only once the body of the request has come."""

    def __init__(self, exchange: ApiExchange, send: Send) -> None:
        self._exchange, self._send = exchange, send
        self._end: dict[str, Any] | None = None
        self._rested = False

    async def send(self, message: Message) -> None:
        exchange = self._exchange
        if exchange.gone:
            return
        begins = message["type"] == "http.response.start"
        exchange.connection.body_follows = begins and exchange.whole  # an early answer may have no end
        if begins:
            exchange.answer(message["status"])
        elif not message.get("more_body", False) and not exchange.whole:
            self._end = {"type": "http.response.body", "body": b""}
            message = {**message, "more_body": True}
        elif not message.get("more_body", False):
            self.rest()  # the next request may begin before sending returns
        await self._send(message)

    def rest(self) -> None:
        """Let the connection wait for its next request."""
        if not self._rested:
            self._rested = True
            self._exchange.connection.rest(trio.current_time())

    async def finish(self) -> None:
        """End an answer that was early; a client that does not stop sending is dropped."""
        if self._end is None or self._exchange.gone:
            return
        await self._exchange.linger()
        self.rest()
        if self._exchange.whole:
            await self._send(self._end)
        elif not self._exchange.gone:
            self._exchange.connection.drop()
