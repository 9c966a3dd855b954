"""The paths of the status page: what each answers, who may ask, and how often it is rendered. Reads only; no path changes anything.

The page is three fixed files without anything of the connector in them. What they show comes from ``/status/events``, a stream of
server-sent events, and ``/status/requests/…``: on a loopback address for clients that name a loopback host, so that no other site leads
a browser there by a name of its own (DNS rebinding); where a token is configured, for those who show it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgspec
import trio

from kmsconn.config.places import is_loopback
from kmsconn.config.settings import MonitoringSettings
from kmsconn.config.values import Secret, StatusPage
from kmsconn.errors import JournalFailed
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.status import status_of
from kmsconn.serving.wire import Headers, LiveAnswer, ServedAnswer, ServedRequest

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
