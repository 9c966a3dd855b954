"""What the monitoring port answers at ``/metrics``, ``/healthz``, ``/liveness`` and ``/version``, and the port itself.

``status_site`` answers the status page. Never opened by an embedded connector; no path changes anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import msgspec
import trio

from kmsconn.errors import StartRefused
from kmsconn.observe.monitor import CONTENT_TYPE, Monitor
from kmsconn.observe.status_site import PageAnswer, StatusSite
from kmsconn.serving.clients import Bounds
from kmsconn.serving.exchange import Port
from kmsconn.serving.server import Server
from kmsconn.serving.wire import ServedAnswer, ServedRequest
from kmsconn.transport.ports import listen_at

METRICS_AGE: Final = 1.0
"""Seconds for which the text of the metrics is given again: rendering it holds up the loop, and anybody may ask."""

CONNECTIONS: Final = 64
BOUNDS: Final = Bounds(CONNECTIONS, idle=5.0, request=5.0, answer=5.0, keeps=False)
"""The port listens on all interfaces, so any stranger may connect, and the connector must not notice."""

_JSON = "application/json"
Page = Callable[[ServedRequest], PageAnswer]
"""Answers a request. Must not block."""


@attrs.frozen
class Identity:
    """What ``/version`` says: the service's name, the program's version, the commit it was built from."""

    name: str
    version: str
    build: str = "unknown"


def answer(path: str, monitor: Monitor, identity: Identity) -> ServedAnswer:
    """Answer a path as the 0.14 services do, whatever the method (fhevm-0.14.md, 10.1)."""
    if path == "/metrics":
        return ServedAnswer(200, CONTENT_TYPE, monitor.metrics())
    if path == "/healthz":
        report = monitor.health()
        return _json(200 if report.healthy else 503, attrs.asdict(report))
    if path == "/liveness":
        return _liveness(monitor.stalled())
    if path == "/version":
        return _json(200, attrs.asdict(identity))
    return _json(404, {"error": "not found"})


def _liveness(stalled: list[str]) -> ServedAnswer:
    """Say whether a restart would help: something in this process stands still although its dependencies answer."""
    if not stalled:
        return _json(200, {"status_code": "200", "status": "alive"})
    return _json(503, {"status_code": "503", "status": "stalled", "details": "; ".join(stalled)})


def _json(status: int, value: Any) -> ServedAnswer:
    return ServedAnswer(status, _JSON, msgspec.json.encode(value))


def make_app(
    monitor: Monitor,
    identity: Identity,
    now: Callable[[], float] = trio.current_time,
    status: StatusSite | None = None,
) -> Page:
    """Return what answers the paths; the metrics are rendered at most once in ``METRICS_AGE``.

    ``status`` answers the paths of the status page, where it is served.
    """
    rendered: list[tuple[float, ServedAnswer]] = []

    def page(request: ServedRequest) -> PageAnswer:
        if status is not None and (found := status.answer(request)) is not None:
            return found
        if request.path != "/metrics":
            return answer(request.path, monitor, identity)
        if not rendered or now() - rendered[0][0] >= METRICS_AGE:
            rendered[:] = [(now(), answer(request.path, monitor, identity))]
        return rendered[0][1]

    return page


@asynccontextmanager
async def open_server(page: Page, address: str) -> AsyncIterator[str]:
    """Serve ``page`` at ``host:port`` while the block lasts; gives the URL, with the real port where 0 was asked for.

    Raises StartRefused when the address cannot be had. Cancellation: connections are closed at once, as at the end of the block.
    """
    try:
        [listener] = await listen_at(address)
    except OSError as error:
        raise StartRefused(
            f"monitoring_endpoint {address} cannot be listened to: {error.strerror or error}"
        ) from error
    server = Server(port_of(page))
    async with listener, trio.open_nursery() as nursery:
        await nursery.start(server.run, [listener])
        yield _url(listener)
        nursery.cancel_scope.cancel()


def port_of(page: Page) -> Port:
    """Return the port at which a page answers."""
    return Port(BOUNDS, lambda request, _: page(request), ServedAnswer(500))


def _url(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
