"""The ASGI application of decryption over HTTP: routes, keys, bodies, and what each failure is to a client. Opens no socket.

The order is that of the original's proxy and endpoint: route, key, declared length, body, a place to wait, the answer
(fhevm-0.15.md, 5.4-5.8).
"""

from __future__ import annotations

from functools import partial
from typing import Final

import attrs
import msgspec
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from kmsconn.config.settings import HttpApi
from kmsconn.http_api.description import (
    ALLOWED,
    API_VERSION,
    DECRYPTION_ROUTES,
    VERSION_PATH,
    DecryptionRoute,
)
from kmsconn.http_api.exchange import (
    CLIENT_GONE,
    UNFINISHED,
    ApiExchange,
    ClientGone,
    Ended,
    ExchangeMiddleware,
    TooSlow,
)
from kmsconn.http_api.failures import FailureCode, HttpFailure
from kmsconn.http_api.keys import ApiClient, ApiClients
from kmsconn.http_api.limits import BodyBudget, WaitingPlaces
from kmsconn.http_api.port import Decryptions, HttpResult
from kmsconn.model.requests import Content
from kmsconn.protocols.fhevm.http_decryption import BodyRefused, HttpLimits

ANSWERED: Final = "ok"
"""The code of an answer that is no failure, in metrics."""
RETRY_AFTER: Final = "1"
"""Seconds in which a client that was told to come back may do so."""

_COME_BACK: Final = frozenset({FailureCode.OVERLOADED, FailureCode.RATE_LIMITED})
_REFUSED: Final = {404: "not_found", 405: "method_not_allowed"}


@attrs.define(eq=False)
class DecryptionApi:
    """What the routes need: the limits, the clients, the places to wait, and who decrypts."""

    settings: HttpApi
    decryptions: Decryptions
    clients: ApiClients
    places: WaitingPlaces
    bodies: BodyBudget = attrs.field(factory=BodyBudget)

    @classmethod
    def of(cls, settings: HttpApi, decryptions: Decryptions) -> DecryptionApi:
        """Return what serves under these settings."""
        places = WaitingPlaces(settings.max_in_flight_decryptions)
        return cls(settings, decryptions, ApiClients(settings.keys), places)

    async def version(self, request: Request) -> Response:
        """Say which version of the API this is."""
        exchange = _begun(request)
        with self._client(request, exchange).request(trio.current_time()):
            exchange.code = ANSWERED
            return _json(200, {"version": API_VERSION})

    async def decrypt(self, route: DecryptionRoute, request: Request) -> Response:
        """Answer a posted decryption, once there is an answer. Raises HttpFailure."""
        exchange = _begun(request)
        with self._client(request, exchange).request(trio.current_time()):
            content = self._content(route, await self._body(request, exchange))
            exchange.decryption_id = content.id
            with self.places.place(), exchange.connection.waiting():
                exchange.let_in = True
                result = await self._result(content, exchange)
        exchange.code = ANSWERED
        return _json(200, result.document())

    def _client(self, request: Request, exchange: ApiExchange) -> ApiClient:
        client = self.clients.find(value for name, value in request.headers.raw if name == b"authorization")
        exchange.client = client.key.id
        return client

    async def _body(self, request: Request, exchange: ApiExchange) -> bytes:
        most = self.settings.max_body_bytes
        if int(request.headers.get("content-length", "0")) > most:
            raise HttpFailure(FailureCode.MALFORMED, f"the body has more than {most} bytes")
        return await exchange.read_body(most, self.bodies)

    def _content(self, route: DecryptionRoute, body: bytes) -> Content:
        settings = self.settings
        limits = HttpLimits(
            settings.supported_chain_ids, settings.max_decryption_request_bits, settings.max_allowed_contracts
        )
        try:
            return route.read(msgspec.json.decode(body), limits)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise HttpFailure(FailureCode.MALFORMED, "the body is not JSON") from None
        except BodyRefused as error:
            raise HttpFailure(FailureCode(error.code), str(error)) from error

    async def _result(self, content: Content, exchange: ApiExchange) -> HttpResult:
        """Wait for the answer while the client does. Raises HttpFailure, and ClientGone."""
        outcome: HttpResult | HttpFailure | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_leave, exchange, nursery.cancel_scope)
            with trio.move_on_after(self.settings.decryption_timeout):
                try:
                    outcome = await self.decryptions.decrypt(content)
                except HttpFailure as failure:
                    outcome = failure
            nursery.cancel_scope.cancel()
        if isinstance(outcome, HttpResult):
            return outcome
        if exchange.gone:
            raise ClientGone
        raise outcome or HttpFailure(
            FailureCode.TIMEOUT, "there is no answer yet; the same request attaches to the work on it"
        )


async def _leave(exchange: ApiExchange, scope: trio.CancelScope) -> None:
    await exchange.wait_gone()
    scope.cancel()


def make_application(api: DecryptionApi, ended: Ended) -> ASGIApp:
    """Return the application; ``ended`` hears of every request that has ended."""
    routes = [
        Route(VERSION_PATH, api.version, methods=["GET"]),
        *(Route(one.path, partial(api.decrypt, one), methods=["POST"]) for one in DECRYPTION_ROUTES),
    ]
    application = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _refuse,
            HttpFailure: _fail,
            TooSlow: _time_out,
            ClientGone: _forget,
            Exception: _crash,
        },
    )
    application.router.redirect_slashes = False
    return ExchangeMiddleware(application, ended)


def _begun(request: Request) -> ApiExchange:
    exchange = ApiExchange.of(request.scope)
    exchange.route = request.scope["path"]
    return exchange


def _json(status: int, document: object, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(document), status, headers, "application/json")


# Handlers are async: starlette runs others in a thread each.


async def _refuse(request: Request, error: Exception) -> Response:
    """Refuse a path or a method, with an empty body."""
    assert isinstance(error, HTTPException)
    exchange, path = ApiExchange.of(request.scope), request.scope["path"]
    await exchange.refuse(_REFUSED.get(error.status_code, str(error.status_code)))
    if path not in ALLOWED:
        return Response(status_code=error.status_code)
    exchange.route = path
    return Response(status_code=error.status_code, headers={"Allow": ALLOWED[path]})


async def _fail(request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpFailure)
    exchange = ApiExchange.of(request.scope)
    exchange.code = error.code.value
    if not exchange.let_in:
        await exchange.refuse(error.code.value)
    if error.decryption_id is None:
        error.decryption_id = exchange.decryption_id
    headers = {}
    if error.code is FailureCode.SENDER_AUTHENTICATION_FAILED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.code in _COME_BACK:
        headers["Retry-After"] = RETRY_AFTER
    return _json(error.status, error.document(), headers)


async def _time_out(request: Request, _: Exception) -> Response:
    ApiExchange.of(request.scope).code = UNFINISHED
    return Response(status_code=408, headers={"Connection": "close"})


async def _forget(request: Request, _: Exception) -> Response:
    ApiExchange.of(request.scope).code = CLIENT_GONE
    return Response(status_code=499)  # nobody reads it


async def _crash(request: Request, _: Exception) -> Response:
    """Answer for a fault in this program; hypercorn writes it into the log."""
    failure = HttpFailure(FailureCode.UNKNOWN, "an unexpected error; see the log of this connector")
    return await _fail(request, failure)
