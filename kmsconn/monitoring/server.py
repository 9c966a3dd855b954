"""The monitoring port: an ASGI application for ``/metrics``, ``/healthz``, ``/liveness`` and ``/version``, and its server.

The only module that knows the HTTP server. Never opened by an embedded connector; no path changes anything.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import attrs
import msgspec
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import ASGIFramework

from kmsconn.errors import StartRefused
from kmsconn.monitoring.metrics import CONTENT_TYPE
from kmsconn.monitoring.monitor import Monitor

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_JSON = "application/json"


@attrs.frozen
class Answer:
    """A whole HTTP answer."""

    status: int
    content_type: str
    body: bytes


@attrs.frozen
class Identity:
    """What ``/version`` says: the service's name, the program's version, the commit it was built from."""

    name: str
    version: str
    build: str = "unknown"


def answer(path: str, monitor: Monitor, identity: Identity) -> Answer:
    """Answer a path as the 0.14 services do, whatever the method (fhevm-0.14.md, 10.1)."""
    if path == "/metrics":
        return Answer(200, CONTENT_TYPE, monitor.metrics())
    if path == "/healthz":
        report = monitor.health()
        return _json(200 if report.healthy else 503, attrs.asdict(report))
    if path == "/liveness":
        return _json(200, {"status_code": "200", "status": "alive"})
    if path == "/version":
        return _json(200, attrs.asdict(identity))
    return _json(404, {"error": "not found"})


def _json(status: int, value: Any) -> Answer:
    return Answer(status, _JSON, msgspec.json.encode(value))


def make_app(monitor: Monitor, identity: Identity) -> Asgi:
    """Return the ASGI application."""

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await _send(answer(scope["path"], monitor, identity), send, head=scope["method"] == "HEAD")
        else:
            await send({"type": "websocket.close"})

    return app


async def _live(receive: Receive, send: Send) -> None:
    """Take part in the server's start and stop; there is nothing to do at either."""
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


async def _send(whole: Answer, send: Send, *, head: bool) -> None:
    headers = [
        (b"content-type", whole.content_type.encode()),
        (b"content-length", str(len(whole.body)).encode()),
    ]
    await send({"type": "http.response.start", "status": whole.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else whole.body})


@asynccontextmanager
async def open_server(app: Asgi, address: str) -> AsyncIterator[str]:
    """Serve ``app`` at ``host:port`` while the block lasts; gives the URL, with the real port where 0 was asked for.

    Raises StartRefused when the address cannot be had. Cancellation: connections are closed at once.
    """
    listener = _bind(address)
    stop = trio.Event()
    config = _server_config(listener)
    async with trio.open_nursery() as nursery:
        run = partial(serve, cast("ASGIFramework", app), config, shutdown_trigger=stop.wait, mode="asgi")
        urls: list[str] = await nursery.start(run)
        yield urls[0]
        stop.set()


def _bind(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        return socket.create_server((bare, int(port)), family=family)
    except OSError as error:
        raise StartRefused(
            f"monitoring_endpoint {address} cannot be listened to: {error.strerror or error}"
        ) from error


def _server_config(listener: socket.socket) -> Config:
    """Hand the socket over by its number, so that a taken address is our error and not one from inside the server."""
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.accesslog = None
    config.errorlog = None
    config.graceful_timeout = 1.0
    config.include_server_header = False
    return config
