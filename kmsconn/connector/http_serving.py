"""The HTTP server as a part of the task tree: listens from the start, serves beside the readers, and lets answers out at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import trio

from kmsconn.errors import StartRefused
from kmsconn.requests.components import Components
from kmsconn.serving.decryptions import HttpApiService
from kmsconn.transport.certificates import TlsFault


@attrs.frozen
class HttpServing:
    """The server and its listeners."""

    service: HttpApiService
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]


@asynccontextmanager
async def open_http_serving(components: Components) -> AsyncIterator[HttpServing | None]:
    """Listen where decryptions are served over HTTP while the block lasts; nothing is accepted yet. None where nothing is served.

    Raises StartRefused for an address that cannot be had or a certificate that cannot be used any more.
    """
    settings = components.settings.http_api
    if settings is None:
        yield None
        return
    ports = components.ports
    try:
        service = HttpApiService(
            settings, components.http_decryptions, ports.offload, components.on_event, ports.wall
        )
        listeners = await ports.listen(settings.endpoint)
    except TlsFault as error:
        raise StartRefused(f"http_endpoint {settings.endpoint} cannot be served: {error}") from error
    except OSError as error:
        raise StartRefused(
            f"http_endpoint {settings.endpoint} cannot be listened to: {error.strerror or error}"
        ) from error
    async with AsyncExitStack() as stack:
        for listener in listeners:
            await stack.enter_async_context(listener)
        yield HttpServing(service, listeners)


@asynccontextmanager
async def serving(http: HttpServing | None) -> AsyncIterator[None]:
    """Serve while the block lasts; leaving it listens no more and waits for the answers of open requests, for a bounded time."""
    if http is None:
        yield
        return
    async with trio.open_nursery() as nursery:
        await nursery.start(http.service.run, http.listeners)
        yield
        http.service.close()
