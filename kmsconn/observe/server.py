"""What the monitoring port answers at ``/metrics``, ``/healthz``, ``/liveness`` and ``/version``, the status page, and the port itself.

Never opened by an embedded connector; no path changes anything.

The page is three fixed files without anything of the connector in them. What they show comes from ``/status/events``, a stream of
server-sent events, and ``/status/requests/…``: on a loopback address for clients that name a loopback host, so that no other site leads
a browser there by a name of its own (DNS rebinding); where a token is configured, for those who show it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib.resources import files
from typing import Any, Final

import attrs
import msgspec
import trio

from kmsconn.config.description import Secret, StatusPage
from kmsconn.config.places import is_loopback
from kmsconn.config.settings import MonitoringSettings
from kmsconn.errors import JournalFailed, StartRefused
from kmsconn.observe.monitor import CONTENT_TYPE, Monitor
from kmsconn.observe.status import status_of
from kmsconn.serving.clients import Bounds
from kmsconn.serving.exchange import Port, Server
from kmsconn.serving.wire import Headers, LiveAnswer, ServedAnswer, ServedRequest
from kmsconn.transport.ports import listen_at

VIEWERS: Final = 8
"""Streams of the page at a time; one more is answered with 503."""
STATUS_INTERVAL: Final = 1.0
"""Seconds between two events of a stream, and for which a rendering is given to everybody."""

_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final[Headers] = (
    ("cache-control", "no-store"),
    ("content-security-policy", _CONTENT_SECURITY_POLICY),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
)
_FILES: Final = {
    "/status": ("status.html", "text/html; charset=utf-8"),
    "/status.css": ("status.css", "text/css; charset=utf-8"),
    "/status.js": ("status.js", "text/javascript; charset=utf-8"),
}
_JSON, _EVENTS = "application/json", "text/event-stream"
_REQUESTS: Final = "/status/requests/"
LOOKUP_SECONDS: Final = 5.0
"""In which the journal must have said what it has of a request."""

_NAME: Final = re.compile(r"[0-9]{1,18}|0x[0-9a-f]{1,64}")

PageAnswer = ServedAnswer | LiveAnswer | Awaitable[ServedAnswer]
"""What is answered at once, or is to be waited for."""
Lookup = Callable[[str], Awaitable[Mapping[str, Any] | None]]
"""Returns a request with its steps by its row number or its id with 0x; None where there is none. Raises JournalFailed."""


class StatusSite:
    """Answers the paths of the status page for one connector. ``names`` are its service and version."""

    def __init__(self, monitor: Monitor, names: dict[str, str], token: Secret | None = None) -> None:
        self._monitor, self._names = monitor, names
        self._token = None if token is None else token.reveal().encode()
        self._rendered: tuple[float, bytes] | None = None
        self.viewers = 0
        self.lookup: Lookup | None = None
        """Finds a request in the journal, while the connector runs."""

    def answer(self, request: ServedRequest) -> PageAnswer | None:
        """Answer a request; None for a path that is not of the status page."""
        if request.path != "/status" and not request.path.startswith(("/status/", "/status.")):
            return None
        if request.method not in {"GET", "HEAD"}:
            return _error(405, "the status page is read-only", ("allow", "GET, HEAD"))
        if request.path in _FILES:
            return _file(request.path)
        return self._refusal(request) or self._data(request.path)

    def _refusal(self, request: ServedRequest) -> ServedAnswer | None:
        if self._token is not None:
            if hmac.compare_digest(request.value(b"authorization"), b"Bearer " + self._token):
                return None
            return _error(401, "a bearer token is needed", ("www-authenticate", "Bearer"))
        if is_loopback(_without_port(request.value(b"host").decode("latin-1"))):
            return None
        return _error(403, "ask by a loopback address, such as 127.0.0.1")

    def _data(self, path: str) -> PageAnswer:
        if path == "/status.json":
            return ServedAnswer(200, _JSON, self.rendering(), _HEADERS)
        if path == "/status/events":
            return self._stream()
        name = path.removeprefix(_REQUESTS) if path.startswith(_REQUESTS) else ""
        if self.lookup is None or not _NAME.fullmatch(name):
            return _error(404, "not found")
        return _looked_up(self.lookup, name)

    def _stream(self) -> ServedAnswer | LiveAnswer:
        if self.viewers >= VIEWERS:
            return _error(503, f"there are {VIEWERS} viewers already", ("retry-after", "5"))
        self.viewers += 1
        return LiveAnswer(_EVENTS, self._pieces(), self._leave, _HEADERS)

    def _leave(self) -> None:
        self.viewers -= 1

    def _pieces(self) -> Callable[[], Awaitable[bytes]]:
        """Return what gives the events of one viewer: the first at once, each further one at the next whole interval."""
        first = True

        async def next_piece() -> bytes:
            nonlocal first
            now = trio.current_time()
            await trio.sleep_until(now if first else (now // STATUS_INTERVAL + 1) * STATUS_INTERVAL)
            first = False
            return b"data: " + self.rendering() + b"\n\n"

        return next_piece

    def rendering(self) -> bytes:
        """Return the status as JSON on one line; everybody who asks within an interval gets the same bytes."""
        interval = trio.current_time() // STATUS_INTERVAL
        if self._rendered is None or self._rendered[0] != interval:
            self._rendered = interval, msgspec.json.encode({**self._names, **status_of(self._monitor)})
        return self._rendered[1]


def make_status_site(monitor: Monitor, settings: MonitoringSettings, version: str) -> StatusSite | None:
    """Return the status page as it is configured, None where it is not served."""
    loopback = is_loopback(settings.monitoring_endpoint.rpartition(":")[0])
    if settings.status_page is StatusPage.OFF or (
        settings.status_page is StatusPage.LOOPBACK and not loopback
    ):
        return None
    names = {"service": settings.service_name, "version": version}
    return StatusSite(monitor, names, settings.status_page_token)


def _without_port(host: str) -> str:
    return host if host.endswith("]") or ":" not in host else host.rpartition(":")[0]


@cache
def _file(path: str) -> ServedAnswer:
    name, content_type = _FILES[path]
    body = files("kmsconn.observe").joinpath("status_page", name).read_bytes()
    return ServedAnswer(200, content_type, body, _HEADERS)


async def _looked_up(lookup: Lookup, name: str) -> ServedAnswer:
    with suppress(JournalFailed), trio.move_on_after(LOOKUP_SECONDS):
        found = await lookup(name)
        if found is None:
            return _error(404, "not found")
        return ServedAnswer(200, _JSON, msgspec.json.encode(found), _HEADERS)
    return _error(503, "the journal cannot be read")


def _error(status: int, text: str, *headers: tuple[str, str]) -> ServedAnswer:
    return ServedAnswer(status, _JSON, msgspec.json.encode({"error": text}), (*_HEADERS, *headers))


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
