"""The client of one KMS node's Core: endpoints, methods, and what their answers mean; never builds a message.

Source: fhevm-0.14.md sections 5.1 and 5.5, outcomes.md rows submit and answer.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import attrs

from kmsconn.config.parties import CoreTls
from kmsconn.core.remedies import core_remedy
from kmsconn.core.statuses import result_error, start_error
from kmsconn.errors import NotYet, RejectedByCore, RequestError, StartRefused, Undecodable, Unreachable
from kmsconn.frozen import frozen
from kmsconn.protocols.port import CoreCall, Meaning
from kmsconn.protocols.protobuf import fields
from kmsconn.transport.grpc.channel import ALPN, Channel, open_channel
from kmsconn.transport.grpc.frames import REPLY_BUDGET, Allowance
from kmsconn.transport.grpc.framing import Status, StatusError
from kmsconn.transport.ports import Ports
from kmsconn.transport.waiting import together


@frozen
class Started:
    """What came of handing a request over.

    ``uncertain``: what the Core said instead, where only the result tells whether that is a success. ``existed``: it has the id already
    (``ALREADY_EXISTS``). ``reply``: the result's protobuf bytes, where it came at once. ``said``: what each endpoint answered to a start.
    """

    uncertain: str = ""
    existed: bool = False
    reply: bytes | None = attrs.field(default=None, repr=False)
    said: tuple[bytes, ...] = attrs.field(default=(), repr=False, eq=False)


SERVICE = "kms_service.v1.CoreServiceEndpoint"
HEALTH_PATH = "/grpc.health.v1.Health/Check"
SERVING, _STATUS_KEY = 1, 1 << 3  # which is a varint

METHOD_PATH = f"/{SERVICE}/"
"""What stands before a method's bare name."""


class CoreClient:
    """One KMS node's Core behind one or several endpoints (shards): start and result of an id go to the same one.

    ``endpoints`` names them for alerts: ``core[0]`` and so on.
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._channels = tuple(channels)
        self.endpoints = tuple(f"core[{index}]" for index in range(len(self._channels)))
        self._lacking: dict[int, int] = {}
        """Endpoints that said that they have no calls that wait, with the number of the connection on which they did."""

    async def start(self, call: CoreCall, index: int | None = None) -> Started:
        """Hand over a request to an endpoint: that of its shard, all where it has none; OK and ALREADY_EXISTS are success (outcomes.md).

        Raises Unreachable, Overloaded, NotYet, Misconfigured, Rejected, Refused; Broken for a reply that is none.
        Cancellation: resets the stream; the Core may have it all the same. Repeating: ALREADY_EXISTS.
        """
        if index is None:
            if call.shard is None:
                return await self._start_everywhere(call)
            index = self.index_of(call)
        where = f"{self.endpoints[index]} {call.method}"
        try:
            reply = await self._channels[index].unary(
                METHOD_PATH + call.method, call.message.parts, call.metadata
            )
        except StatusError as error:
            meaning = _meaning(call, error)
            if meaning is Meaning.REFUSED:
                raise RejectedByCore(f"{where}: {error}") from error
            if meaning is Meaning.WAIT:
                raise NotYet(f"{where}: {error}") from error
            if meaning is None and (failure := start_error(error, where)):
                raise failure.of(remedy=self._remedy_for(index, error)) from error
            if meaning is Meaning.UNCERTAIN:
                return Started(f"{where}: {error}")
            return Started(existed=error.status is Status.ALREADY_EXISTS)
        return Started(said=(reply,))

    async def _start_everywhere(self, call: CoreCall) -> Started:
        said = await together([partial(self.start, call, index) for index in range(len(self._channels))])
        uncertain = next((one.uncertain for one in said if one.uncertain), "")
        told = tuple(reply for one in said for reply in one.said)
        return Started(uncertain, any(one.existed for one in said), said=told)

    def waits(self, call: CoreCall) -> bool:
        """Say whether ``decrypt`` may wait for a result: not where the endpoint has said that it does not."""
        index = self.index_of(call)
        return self._lacking.get(index) != self._channels[index].connections

    async def decrypt(self, call: CoreCall) -> Started:
        """Hand over a request and wait for its result in one call where the endpoint offers that, else only hand it over (annex C).

        That it does not is remembered until it is connected to anew: another Core may stand there then. Without a reply the Core has the
        request, and its result is to be asked for.

        Raises as ``start``. Cancellation: as there. Repeating: the Core attaches to what it has, or does again what failed.
        """
        index = self.index_of(call)
        channel = self._channels[index]
        if self.waits(call):
            try:
                return Started(
                    reply=await channel.unary(METHOD_PATH + call.at_once, call.message.parts, call.metadata)
                )
            except StatusError as error:
                if error.status is not Status.UNIMPLEMENTED:
                    _check_waiting(error, f"{self.endpoints[index]} {call.at_once}")
                    return Started()
                self._lacking[index] = channel.connections
        return await self.start(call)

    async def result(self, call: CoreCall) -> bytes:
        """Wait for a result and return its protobuf bytes.

        Raises NotYet when the long poll ended without one, Forgotten when the Core does not know the id, Unreachable,
        Overloaded, Misconfigured, Rejected, Refused, Aborted; Broken for a reply that is none.
        Cancellation: resets the stream. Repeating: a result may be read any number of times.
        """
        index = self.index_of(call)
        try:
            return await self._channels[index].unary(
                METHOD_PATH + call.method, call.message.parts, call.metadata
            )
        except StatusError as error:
            meaning = result_error(error, f"{self.endpoints[index]} {call.method}")
            assert meaning is not None, "a StatusError is never OK"
            raise meaning.of(remedy=self._remedy_for(index, error)) from error

    async def health(self, index: int) -> str:
        """Return nothing for an endpoint that says that it serves, else what is wrong with it.

        A Core of the first generation has no such service; that it says so is enough.

        Raises Unreachable without a connection. Cancellation: at any time. Repeating: harmless.
        """
        request = b"\x0a" + bytes([len(SERVICE)]) + SERVICE.encode()
        try:
            reply = await self._channels[index].unary(HEALTH_PATH, [request])
            serves = [value for key, value in fields(reply) if key == _STATUS_KEY] == [SERVING]
        except StatusError as error:
            lacking = error.spoken and error.status is Status.UNIMPLEMENTED
            return "" if lacking else f"its health check failed: {error}"
        except Unreachable:
            raise
        except (RequestError, Undecodable) as error:
            return str(error)
        return "" if serves else "is not serving"

    async def inspect(self, index: int, method: str, message: bytes = b"") -> bytes | None:
        """Ask an endpoint something by its protobuf bytes, none where it takes no argument; None where it has no such call.

        Raises as ``result``. Cancellation: resets the stream. Repeating: reads only.
        """
        try:
            return await self._channels[index].unary(METHOD_PATH + method, [message])
        except StatusError as error:
            if error.spoken and error.status is Status.UNIMPLEMENTED:
                return None
            meaning = result_error(error, f"{self.endpoints[index]} {method}")
            assert meaning is not None, "a StatusError is never OK"
            raise meaning from error

    def remedy(self, index: int, words: str) -> str:
        """Return what an endpoint was found to be, and what to do, by the words of a failure; empty where they tell nothing."""
        return core_remedy(words, is_tls=self._channels[index].is_tls)

    def _remedy_for(self, index: int, error: StatusError) -> str:
        """Return the remedy for a call that failed on the way: what a Core itself says is of its own dependencies."""
        return "" if error.spoken else self.remedy(index, str(error))

    def connections(self, index: int) -> int:
        """Return how many connections to an endpoint there have been."""
        return self._channels[index].connections

    def index_of(self, call: CoreCall) -> int:
        """Return which endpoint a call goes to: start and result of an id meet the same one (5.5)."""
        return (call.shard or 0) % len(self._channels)


def _check_waiting(error: StatusError, where: str) -> None:
    """Raise what the end of a call that waits means, unless the Core may be at work: if it is not, its result call says so."""
    if error.spoken and error.status is Status.UNAVAILABLE:
        return
    if failure := start_error(error, where):
        raise failure from error


def _meaning(call: CoreCall, error: StatusError) -> Meaning | None:
    """Return what a status means for this call alone; None: what it usually means."""
    reading = call.means.get(error.status.name) if error.spoken else None
    return reading(error.message) if callable(reading) else reading


def parse_endpoint(endpoint: str) -> tuple[str, int, bool]:
    """Return host, port and whether TLS is asked for, from ``http(s)://host:port`` or ``host:port``.

    Raises ValueError when there is no host or the port is no number.
    """
    parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
    secure = parts.scheme == "https"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("an endpoint of the Core must be http://host:port")
    return parts.hostname, parts.port or (443 if secure else 80), secure


@asynccontextmanager
async def open_core(
    endpoints: tuple[str, ...],
    ports: Ports,
    core_tls: CoreTls | None = None,
    reply_budget: int = REPLY_BUDGET,
) -> AsyncIterator[CoreClient]:
    """Open a client of the Core that lives as long as the block; connections are made when calls need them.

    TLS is used where the endpoint says ``https`` or ``core_tls`` is given. ``reply_budget`` is how many bytes of large
    replies come in at once, each endpoint having an equal part: one that stops in the middle holds up no other.
    Raises StartRefused for unusable TLS files.
    """
    async with AsyncExitStack() as stack:
        channels, part = [], reply_budget // max(1, len(endpoints))
        for endpoint in endpoints:
            host, port, secure = parse_endpoint(endpoint)
            context = _context(core_tls, secure=secure)
            channels.append(
                await stack.enter_async_context(
                    open_channel(
                        host, port, ports.dial, context, jitter=ports.random, allowance=Allowance(part)
                    )
                )
            )
        yield CoreClient(channels)


def client_context(tls: CoreTls) -> ssl.SSLContext:
    """Return a context that offers HTTP/2 and trusts the given authority, or the system's when none is given.

    Raises StartRefused when a file cannot be read or does not hold what it should.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.certificate_file is not None:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
    except OSError as error:  # SSLError is one
        raise StartRefused(f"core_tls: {error}") from error
    context.set_alpn_protocols([ALPN])
    return context


def _context(core_tls: CoreTls | None, *, secure: bool) -> ssl.SSLContext | None:
    if core_tls is None and not secure:
        return None
    return client_context(core_tls or CoreTls())
