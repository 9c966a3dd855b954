"""Decryption over HTTP as a port of the server: routes, keys, bodies, and what each failure is to a client. Opens no socket.

The order is that of the original's proxy and endpoint: route, key, declared length, body, a place to wait, the answer
(fhevm-0.15.md, 5.1-5.8).
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

import attrs
import msgspec
import trio

from kmsconn.config.working import HttpApi
from kmsconn.model.alerts import Board
from kmsconn.model.events import HttpAnswered, OnEvent
from kmsconn.model.http_answers import Decryptions, FailureCode, HttpFailure, HttpResult
from kmsconn.model.requests import Content
from kmsconn.protocols.fhevm.http_decryption import BodyRefused, HttpLimits, read_public, read_user
from kmsconn.requests.snapshot import HttpApiStatistics
from kmsconn.serving.clients import Bodies, Bounds, Entrance, Pace, Places
from kmsconn.serving.exchange import ClientGone, Exchange, Listener, Port, Server
from kmsconn.serving.keys import ApiClient, ApiClients
from kmsconn.serving.reloading import HTTP_API, TlsContext, watch, watched_files
from kmsconn.serving.wire import BadRequest, Headers, ServedAnswer, ServedRequest
from kmsconn.transport.ports import Offload

API_VERSION: Final = "v1"

IDLE_SECONDS: Final = 60.0
"""Between two requests of one connection, and before its first: longer than a relayer's pool keeps one, so that none meets its end."""
REQUEST_SECONDS: Final = 30.0
"""In which a request, head and body, must have come."""
ANSWER_SECONDS: Final = 10.0
"""In which a client must have taken what is sent."""
SPARE_CONNECTIONS: Final = 512
"""Beyond those that wait for an answer: for clients that still send, and for refusals."""
ACCEPTED_PER_SECOND: Final = 1000
"""New connections, which wait for their turn then: to choose the one that has to go for it takes a tenth of a millisecond at most."""
SERVED_PER_SECOND, SERVED_AT_ONCE = 200, 1000
"""New connections that have their turn: a handshake of TLS takes about a millisecond. Clients keep theirs."""
REFUSED_PER_SECOND = 50
"""Requests that are refused before they wait for an answer: without a key, malformed, over a limit."""

ANSWERED: Final = "ok"
CLIENT_GONE: Final = "client_gone"
UNFINISHED: Final = "request_timeout"
NOT_ANSWERED: Final = "unfinished"
"""Codes of requests that end without a failure's code, in metrics."""
MALFORMED: Final = FailureCode.MALFORMED.value
NO_ANSWER_YET: Final = "there is no answer yet; the same request attaches to the work on it"
RETRY_AFTER: Final = "1"
"""Seconds in which a client that was told to come back may do so."""

_COME_BACK: Final = frozenset({FailureCode.OVERLOADED, FailureCode.RATE_LIMITED})


PUBLIC_PATH: Final = "/v1/public-decrypt"
USER_PATH: Final = "/v1/user-decrypt"
READERS: Final[Mapping[str, Callable[[object, HttpLimits], Content]]] = {
    PUBLIC_PATH: read_public,
    USER_PATH: read_user,
}
"""How a body is read, by the path to which decryptions are posted."""
VERSION_PATH: Final = "/version"
VERSION_PATHS: Final = (VERSION_PATH, "/v1/version")
"""The second one is that of earlier commits, which relayers still ask for."""

ALLOWED: Final[Mapping[str, Sequence[str]]] = {
    **dict.fromkeys(READERS, ("POST",)),
    **dict.fromkeys(VERSION_PATHS, ("GET", "HEAD")),
}
"""The methods of each path, as its ``Allow`` header has them."""


@attrs.define(eq=False)
class _Record:
    """A request that is being answered, and how it ends: what is told of it."""

    started: float
    route: str = "other"
    status: int = 0
    code: str = NOT_ANSWERED
    client: str = ""
    decryption_id: int | None = None


class DecryptionPort:
    """Answers the requests of the port: keys, bounds, places to wait, and who decrypts."""

    def __init__(self, settings: HttpApi, decryptions: Decryptions, on_event: OnEvent) -> None:
        self._settings, self._decryptions, self._on_event = settings, decryptions, on_event
        self._limits = HttpLimits(
            settings.supported_chain_ids, settings.max_decryption_request_bits, settings.max_allowed_contracts
        )
        self.clients = ApiClients(settings.keys)
        self.places = Places(settings.max_in_flight_decryptions)
        self.bodies = Bodies()
        self.refusals = Pace(REFUSED_PER_SECOND, REFUSED_PER_SECOND)
        bounds = Bounds(connections_limit(self.places.limit), IDLE_SECONDS, REQUEST_SECONDS, ANSWER_SECONDS)
        unknown = HttpFailure(FailureCode.UNKNOWN, "an unexpected error; see the log of this connector")
        self.port = Port(bounds, self.reply, _worded(unknown))

    async def reply(self, request: ServedRequest, exchange: Exchange) -> ServedAnswer:
        """Answer a request, and tell how it ended. Raises ClientGone, and what crashed."""
        record = _Record(trio.current_time())
        try:
            answer = await self._answered_or_refused(request, exchange, record)
            record.status = answer.status
        except ClientGone:
            record.code = CLIENT_GONE
            raise
        except Exception:
            record.status, record.code = 500, FailureCode.UNKNOWN.value
            raise
        finally:
            self._tell(record)
        return answer

    async def _answered_or_refused(
        self, request: ServedRequest, exchange: Exchange, record: _Record
    ) -> ServedAnswer:
        try:
            return await self._answered(request, exchange, record)
        except BadRequest as refusal:  # its body is none, or has not come in time
            record.code = UNFINISHED if refusal.status == HTTPStatus.REQUEST_TIMEOUT else MALFORMED
            return ServedAnswer(refusal.status)
        except HttpFailure as failure:
            answer = _failed(failure, record)
        await self.refusals.turn()
        return answer

    async def _answered(self, request: ServedRequest, exchange: Exchange, record: _Record) -> ServedAnswer:
        """Answer a request. Raises HttpFailure where it is refused before it has a place, BadRequest and ClientGone."""
        path = request.path
        if path not in ALLOWED:
            return await self._elsewhere(record, ServedAnswer(404), "not_found")
        record.route = path
        if request.method not in ALLOWED[path]:
            allowed = ("allow", ",".join(ALLOWED[path]))
            return await self._elsewhere(record, ServedAnswer(405, headers=(allowed,)), "method_not_allowed")
        with self._client(request, record).request(trio.current_time()):
            if path in VERSION_PATHS:
                record.code = ANSWERED
                return _json(200, {"version": API_VERSION})
            content = await self._content(request, exchange)
            record.decryption_id = content.id
            with self.places.place(), self.port.connections.waiting(exchange.connection):
                outcome = await self._outcome(content, exchange)
        if isinstance(outcome, HttpFailure):
            return _failed(outcome, record)
        record.code = ANSWERED
        return _json(200, outcome.document())

    async def _elsewhere(self, record: _Record, answer: ServedAnswer, code: str) -> ServedAnswer:
        record.code = code
        await self.refusals.turn()
        return answer

    def _client(self, request: ServedRequest, record: _Record) -> ApiClient:
        client = self.clients.find(request.values(b"authorization"))
        record.client = client.key.id
        return client

    async def _content(self, request: ServedRequest, exchange: Exchange) -> Content:
        """Read the body. Raises HttpFailure, BadRequest and ClientGone."""
        most = self._settings.max_body_bytes
        size = request.length
        with self.bodies.body() as body:
            while size <= most and (piece := await exchange.piece()):
                self.bodies.grow(body, piece)
                size = max(size, len(body))
            if size > most:
                raise HttpFailure(FailureCode.MALFORMED, f"the body has more than {most} bytes")
            try:
                return READERS[request.path](msgspec.json.decode(body), self._limits)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise HttpFailure(FailureCode.MALFORMED, "the body is not JSON") from None
            except BodyRefused as error:
                raise HttpFailure(FailureCode(error.code), str(error)) from error

    async def _outcome(self, content: Content, exchange: Exchange) -> HttpResult | HttpFailure:
        """Wait for the answer while the client does. Raises ClientGone.

        A failure comes out as a value, since a nursery would wrap it; without its traceback, which would hold this frame and itself.
        """
        outcome: HttpResult | HttpFailure | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_leave, exchange, nursery.cancel_scope)
            with trio.move_on_after(self._settings.decryption_timeout) as waiting:
                try:
                    outcome = await self._decryptions.decrypt(content)
                except HttpFailure as failure:
                    outcome = failure.with_traceback(None)
            nursery.cancel_scope.cancel()
        if outcome is None and not waiting.cancelled_caught:
            raise ClientGone
        return outcome or HttpFailure(FailureCode.TIMEOUT, NO_ANSWER_YET)

    def _tell(self, record: _Record) -> None:
        seconds = trio.current_time() - record.started
        self._on_event(
            HttpAnswered(
                record.route, record.status, record.code, record.client, seconds, id=record.decryption_id
            )
        )


async def _leave(exchange: Exchange, scope: trio.CancelScope) -> None:
    await exchange.wait_gone()
    scope.cancel()


def _failed(failure: HttpFailure, record: _Record) -> ServedAnswer:
    record.code = failure.code.value
    return _worded(failure, record.decryption_id)


def _worded(failure: HttpFailure, decryption_id: int | None = None) -> ServedAnswer:
    if failure.decryption_id is None:
        failure.decryption_id = decryption_id
    headers: Headers = ()
    if failure.code is FailureCode.SENDER_AUTHENTICATION_FAILED:
        headers = (("www-authenticate", "Bearer"),)
    elif failure.code in _COME_BACK:
        headers = (("retry-after", RETRY_AFTER),)
    return _json(failure.status, failure.document(), headers)


def _json(status: int, document: object, headers: Headers = ()) -> ServedAnswer:
    return ServedAnswer(status, "application/json", msgspec.json.encode(document), headers)


def connections_limit(places: int) -> int:
    """Return how many connections there may be: the places of those who wait, some more, and half the process's descriptors at most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = places + SPARE_CONNECTIONS
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft // 2)


class HttpApiService:
    """Serves decryptions over HTTP while it runs. Raises TlsFault where the certificate cannot be used any more."""

    def __init__(
        self,
        settings: HttpApi,
        decryptions: Decryptions,
        offload: Offload,
        on_event: OnEvent,
        wall: Callable[[], float],
    ) -> None:
        self._offload, self._wall = offload, wall
        self.answers = DecryptionPort(settings, decryptions, on_event)
        self._tls = tls = TlsContext(settings.tls)
        self._board = Board(on_event, trio.current_time)
        self._files = watched_files(settings, self.answers.clients, tls, self._board)
        self._server = Server(
            self.answers.port,
            lambda: tls.current,
            Pace(ACCEPTED_PER_SECOND, ACCEPTED_PER_SECOND),
            Entrance(Pace(SERVED_PER_SECOND, SERVED_AT_ONCE)),
        )

    def close(self) -> None:
        """Listen no more, and end with the answers that are waited for. Repeating: no effect."""
        self._server.close()

    async def run(  # noqa: ASYNC128 - the server calls it
        self, listeners: Sequence[Listener], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until closed; closes the listeners. Cancellation: closes every connection at once."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, self._files, self._offload, self._look_at_certificate)
            await self._server.run(listeners, task_status=task_status)
            nursery.cancel_scope.cancel()

    def statistics(self) -> HttpApiStatistics:
        """Return a snapshot."""
        answers, connections = self.answers, self.answers.port.connections
        return HttpApiStatistics(
            waiting=answers.places.taken,
            places=answers.places.limit,
            connections=len(connections),
            connections_limit=connections.limit,
            dropped=connections.dropped,
            body_bytes=answers.bodies.used,
            certificate_end=self._tls.end,
        )

    def _look_at_certificate(self) -> None:
        self._board.set("certificate-ends", HTTP_API, self._tls.told_end(self._wall()))
