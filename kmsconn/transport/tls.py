"""TLS over a stream that is open already, as a client, with the system's authorities unless told otherwise. Dials nobody."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from functools import cache

import trio


@cache
def system_context(alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """Return a context with the system's authorities that offers these protocols."""
    context = ssl.create_default_context()
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


async def start_tls(
    stream: trio.abc.Stream, host: str, context: ssl.SSLContext | None = None, *, alpn: Sequence[str] = ()
) -> trio.SSLStream[trio.abc.Stream]:
    """Return the stream with TLS, the peer's certificate verified for ``host``.

    Raises ConnectionError where that fails. Then, and when cancelled, the stream is closed.
    """
    secured = trio.SSLStream(
        stream, context or system_context(tuple(alpn)), server_hostname=host, https_compatible=True
    )
    try:
        await secured.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(stream)
        raise ConnectionError(f"TLS with {host}: {error.__cause__ or 'the peer hung up'}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured
