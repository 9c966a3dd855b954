"""Decryption over HTTP as one part of a connector: the application, its server and its files, and the numbers of all of them."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence

import trio

from kmsconn.config.settings import HttpApi
from kmsconn.http_api.application import DecryptionApi, make_application
from kmsconn.http_api.connections import SPARE_CONNECTIONS, ConnectionTable
from kmsconn.http_api.exchange import ApiExchange
from kmsconn.http_api.port import Decryptions
from kmsconn.http_api.reloading import HTTP_API, TlsContext, watch, watched_files
from kmsconn.http_api.server import HttpServer, Listener
from kmsconn.http_api.usage import HttpApiStatistics
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import HttpAnswered, OnEvent
from kmsconn.transport.ports import Offload


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
        self._offload, self._on_event, self._wall = offload, on_event, wall
        self._table = ConnectionTable(connections_limit(settings.max_in_flight_decryptions))
        self._api = DecryptionApi.of(settings, decryptions)
        self._tls = tls = TlsContext(settings.tls)
        self._alerts = Alerts(on_event)
        self._files = watched_files(settings, self._api.clients, tls, on_event)
        application = make_application(self._api, self._tell)
        self._server = HttpServer(application, self._table, lambda: tls.current)

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
        return HttpApiStatistics(
            waiting=self._api.places.taken,
            places=self._api.places.limit,
            connections=len(self._table),
            connections_limit=self._table.limit,
            dropped=self._table.dropped,
            body_bytes=self._api.bodies.used,
            certificate_end=self._tls.end,
        )

    def _look_at_certificate(self) -> None:
        self._alerts.put(HTTP_API, "certificate-ends", self._tls.told_end(self._wall()))

    def _tell(self, exchange: ApiExchange) -> None:
        self._on_event(
            HttpAnswered(
                exchange.route,
                exchange.status,
                exchange.code,
                exchange.client,
                exchange.seconds,
                id=exchange.decryption_id,
            )
        )


def connections_limit(places: int) -> int:
    """Return how many connections there may be: the places of those who wait, some more, and half the process's descriptors at most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = places + SPARE_CONNECTIONS
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft // 2)
