"""Unary gRPC calls to one address: dials when a call needs it, again after a loss; repeats only what was not processed.

A call that was not sent yet waits for a connection; a call in flight when its connection is lost fails, because
only the caller knows whether it may be repeated. Where the server says that it did nothing with a call (a refused
stream, one above GOAWAY's last), it is made again: servers refuse streams that are within their limit while they
still count one that has just ended.

Source: RFC 9113, 8.7.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import random

import attrs
import trio

from kmsconn.errors import Unreachable
from kmsconn.transport.grpc.frames import Allowance
from kmsconn.transport.grpc.framing import MAX_MESSAGE, NotProcessed, StatusError
from kmsconn.transport.grpc.headers import Header
from kmsconn.transport.grpc.link import Link

ALPN = "h2"
CONNECT_TIME = 10.0  # seconds for dialling and TLS together
REFUSALS = 2  # so often a call is made again that the server did not process
REFUSED_PAUSE = 0.05  # seconds before that
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds between dials that lead to nothing
MOST_DOUBLINGS = 8  # beyond LONGEST_PAUSE; keeps the power small


Dial = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Opens a byte stream to a host and port; raises OSError when there is nobody."""


@attrs.define(eq=False)
class _Attempt:
    """One attempt to connect; all calls that need a connection share its outcome."""

    done: trio.Event = attrs.field(factory=trio.Event)
    link: Link | None = None
    reason: str = ""

    def end(self, reason: str) -> None:
        self.reason = reason
        self.done.set()


@attrs.define
class _Pauses:
    """The pauses before dials: none after a connection, and longer ones the more dials in a row led to nothing.

    A connection on which no call was answered is forgiven once, since a server that restarts sends its clients away.
    Each further one in a row counts as a dial that led to nothing.
    """

    jitter: Callable[[], float]
    failed: int = 0
    """Dials since the last connection."""
    unanswered: int = 0
    """Connections since a call was last answered."""

    def connected(self) -> None:
        self.failed = 0
        self.unanswered += 1

    def answered(self) -> None:
        self.unanswered = 0

    def seconds(self) -> float:
        """Return how long to wait before the next dial."""
        in_vain = self.failed + max(self.unanswered - 1, 0)
        if not in_vain:
            return 0.0
        full = min(FIRST_PAUSE * 2.0 ** min(in_vain - 1, MOST_DOUBLINGS), LONGEST_PAUSE)
        return full * (0.5 + self.jitter() / 2)


@attrs.frozen
class Address:
    """Where a server listens. ``context`` makes it TLS; it must offer ``h2`` by ALPN."""

    host: str
    port: int
    context: ssl.SSLContext | None = attrs.field(default=None, repr=False)

    @property
    def authority(self) -> str:
        """Host and port as a request names them (RFC 3986)."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Channel:
    """Unary calls over at most one live connection. Made by ``open_channel``."""

    def __init__(
        self,
        address: Address,
        dial: Dial,
        jitter: Callable[[], float],
        max_message: int,
        allowance: Allowance,
    ) -> None:
        self._address, self._dial = address, dial
        self._max_message, self._allowance = max_message, allowance
        # One place: there is never a second attempt while one is under way.
        self._wanted, self._to_do = trio.open_memory_channel[_Attempt](1)
        self._attempt: _Attempt | None = None
        self._link: Link | None = None
        self._pauses = _Pauses(jitter)
        self._closed = False
        self.connections = 0
        """How many connections there have been."""

    @property
    def is_tls(self) -> bool:
        """Whether TLS is asked for."""
        return self._address.context is not None

    async def unary(self, path: str, parts: Sequence[bytes], metadata: Sequence[Header] = ()) -> bytes:
        """Send a message given in pieces, and ``metadata``, and return the reply's message.

        Raises StatusError, Broken for a reply that is none, Unreachable without a connection or when it is lost.
        Cancellation: resets the stream; the server may have done its work. Repeating: the caller's question, but for
        calls that the server did not process.
        """
        refusals = 0
        while True:
            link = self._link
            if link is None or not link.usable:
                attempt = self._shared_attempt()
                await attempt.done.wait()
                if (link := attempt.link) is None:
                    raise Unreachable(attempt.reason)
            if link.slots.available_tokens > 0:
                link.slots.acquire_nowait()  # the call that follows waits anyway
            else:
                await link.slots.acquire()
                if not link.usable:
                    link.slots.release()
                    continue
            try:
                reply = await link.unary(path, parts, metadata)
            except NotProcessed:
                if refusals == REFUSALS:
                    raise
            except StatusError:
                self._pauses.answered()
                raise
            else:
                self._pauses.answered()
                return reply
            finally:
                link.slots.release()
            refusals += 1
            await trio.sleep(REFUSED_PAUSE)

    def _shared_attempt(self) -> _Attempt:
        if self._closed:
            raise Unreachable(f"{self._address.authority}: the channel is closed")
        if self._attempt is None:
            self._attempt = _Attempt()
            self._wanted.send_nowait(self._attempt)
        return self._attempt

    async def serve(self) -> None:
        """Connect whenever a call wants it, and keep what was connected. Runs until it is cancelled."""
        async with trio.open_nursery() as links:
            async for attempt in self._to_do:
                await trio.sleep(self._pauses.seconds())
                await self._try(attempt, links)
                self._link, self._attempt = attempt.link, None
                attempt.done.set()

    def close(self) -> None:
        """Fail the calls that still wait for a connection, and all later ones."""
        self._closed = True
        self._wanted.close()
        if self._attempt is not None:
            self._attempt.end(f"{self._address.authority}: the channel was closed")

    async def _try(self, attempt: _Attempt, links: trio.Nursery) -> None:
        """Connect and put the link, or the reason why there is none, into the attempt."""
        self._pauses.failed += 1
        try:
            with trio.fail_after(CONNECT_TIME):
                link = await self._connect(links)
        except trio.TooSlowError:
            attempt.reason = f"{self._address.authority}: no connection within {CONNECT_TIME:g} s"
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            attempt.reason = f"{self._address.authority}: {error.__cause__ or error}"
        else:
            attempt.reason = link.lost or ""
            if link.usable:
                attempt.link = link
                self._pauses.connected()
                self.connections += 1

    async def _connect(self, links: trio.Nursery) -> Link:
        """Dial, and return the link once the server's settings are here; it runs in ``links``."""
        stream = await self._secured(await self._dial(self._address.host, self._address.port))
        link = Link(
            stream,
            self._address.authority,
            max_message=self._max_message,
            allowance=self._allowance,
        )
        links.start_soon(link.run)
        try:
            await link.ready.wait()
        except trio.Cancelled:
            link.lose("no settings came")
            raise
        return link

    async def _secured(self, stream: trio.abc.Stream) -> trio.abc.Stream:
        if self._address.context is None:
            return stream
        secured = trio.SSLStream(stream, self._address.context, server_hostname=self._address.host)
        try:
            await secured.do_handshake()
            _check_protocol(secured)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured


def _check_protocol(stream: trio.SSLStream[trio.abc.Stream]) -> None:
    """Raise BrokenResourceError unless the server chose HTTP/2: what else it speaks would only be told as broken."""
    if stream.selected_alpn_protocol() != ALPN:
        raise trio.BrokenResourceError("the server offers no HTTP/2 by ALPN")


@asynccontextmanager
async def open_channel(
    host: str,
    port: int,
    dial: Dial,
    tls: ssl.SSLContext | None = None,
    *,
    jitter: Callable[[], float] = random,
    max_message: int = MAX_MESSAGE,
    allowance: Allowance | None = None,
) -> AsyncIterator[Channel]:
    """Open a channel that lives as long as the block; nothing is dialled before the first call.

    ``jitter`` draws from [0, 1), for the pauses between dials.
    ``max_message`` is the size of the largest reply that is taken, in bytes; ``allowance``, which channels may share,
    how many bytes of large ones come in at once.
    Calls that are still in flight at the end of the block fail as unreachable.
    """
    channel = Channel(Address(host, port, tls), dial, jitter, max_message, allowance or Allowance())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.serve)  # noqa: ASYNC113 - nothing waits for it: calls wait for a connection
        try:
            yield channel
        finally:
            channel.close()
            nursery.cancel_scope.cancel()
