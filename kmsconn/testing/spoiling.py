"""Counts every call that reaches a dependency, JSON-RPC, gRPC or HTTP, and every burst of bytes, and spoils one. Never spoils two.

A spoiled call is what an honest dependency in trouble may do, so everything must be answered all the same. Lies are for other tests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import partial
from typing import Any, Never

import trio

from kmsconn.emulator.buckets import error as s3_error
from kmsconn.emulator.buckets import serve_bucket
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.grpc_server import CutConnection, GoAway, GrpcFailure, Method, serve_grpc
from kmsconn.emulator.http import HangUp, HttpRequest, HttpResponse
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.node_faults import LIMIT_EXCEEDED, NodeError, NodeFault
from kmsconn.emulator.rpc import RpcNode
from kmsconn.emulator.rpc_answers import Begun, SessionMethods
from kmsconn.transport.grpc.framing import Status
from kmsconn.transport.ports import Dial


class WrappedStream(trio.abc.Stream):
    """A stream that passes everything on to the one beneath it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send on the stream beneath."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for room on the stream beneath."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive from the stream beneath."""
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close the stream beneath."""
        await self._stream.aclose()


class Spoil(StrEnum):
    """How a call goes wrong. Where a dependency has no such trouble, the nearest one that it has."""

    CUT = "cut"
    """The connection breaks before the call is carried out."""
    CUT_AFTER = "cut after"
    """The call is carried out; the connection breaks before the answer."""
    HANG = "hang"
    """No answer comes, the connection stays."""
    ERROR = "error"
    """A JSON-RPC error, UNKNOWN, 500."""
    BUSY = "busy"
    """The rate limit, RESOURCE_EXHAUSTED, 503."""
    UNAVAILABLE = "unavailable"
    """A JSON-RPC error, UNAVAILABLE, 403."""
    NOT_FOUND = "not found"
    """``null``, NOT_FOUND, 404: true a moment ago."""
    GARBAGE = "garbage"
    """A result of another type, GOAWAY, other bytes than the digest says."""
    TRUNCATED = "truncated"
    """Half of the answer."""
    RESET = "reset"
    """Not a call but a burst of bytes, sent or received: the connection breaks instead."""
    HALF = "half"
    """Half of a burst, then the connection breaks."""


OF_BURSTS = frozenset({Spoil.RESET, Spoil.HALF})


class Spoiler:
    """Lets the call, or burst of bytes, number ``at`` of a scenario go wrong, counted from 1 over all dependencies; 0: none."""

    def __init__(self, at: int = 0, how: Spoil = Spoil.CUT) -> None:
        self.calls: list[str] = []
        """What was called, in order: ``gateway eth_call``, ``core0 PublicDecrypt``, ``bucket1 GET``."""
        self.bursts: list[str] = []
        """What was sent or received by the connector, in order: ``to core0``, ``from gateway``."""
        self.struck = False
        self._at, self._how = at, how

    def strikes(self, name: str) -> Spoil | None:
        """Count a call; say how it goes wrong, if it does."""
        return self._count(self.calls, name, self._how not in OF_BURSTS)

    def strikes_burst(self, name: str) -> Spoil | None:
        """Count a burst of bytes; say how it goes wrong, if it does."""
        return self._count(self.bursts, name, self._how in OF_BURSTS)

    def _count(self, counted: list[str], name: str, meant: bool) -> Spoil | None:
        counted.append(name)
        if not meant or len(counted) != self._at:
            return None
        self.struck = True
        return self._how

    def settle(self, dependencies: FhevmDependencies, network: MemoryNetwork) -> None:
        """Let dependencies be dialled on a memory network, their calls counted."""
        for name, cluster in dependencies.clusters.items():
            cluster.nodes[:] = [_SpoiledNode(node, name, self) for node in cluster.nodes]
        dependencies.settle_in_memory(network)
        for index, core in enumerate(dependencies.cores):
            name = f"core{index}"
            methods = {path: partial(_call, self, name, path, m) for path, m in core.methods().items()}
            network.serve(*dependencies.places[name], partial(serve_grpc, methods=methods))
        for index, bucket in enumerate(dependencies.buckets):
            name = f"bucket{index}"
            handler = partial(_get, self, name, bucket.handle)
            network.serve(*dependencies.places[name], partial(serve_bucket, handler))

    def dial(self, dial: Dial) -> Dial:
        """Return how the connector dials, its bytes counted."""

        async def counted(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
            return _CountedStream(await dial(host, port, tls=tls), host, self)

        return counted


class _CountedStream(trio.abc.Stream):
    """A stream that may break at a burst."""

    def __init__(self, stream: trio.abc.Stream, name: str, spoiler: Spoiler) -> None:
        self._stream, self._name, self._spoiler = stream, name, spoiler
        self._broken = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it, half of it or nothing."""
        how = self._spoiler.strikes_burst(f"to {self._name}")
        if how is Spoil.HALF:
            await self._stream.send_all(memoryview(data)[: len(data) // 2])
        if how is not None:
            await self._break()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for room."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive all that came, half of it or nothing."""
        if self._broken:
            await self._break()
        data = await self._stream.receive_some(max_bytes)
        how = self._spoiler.strikes_burst(f"from {self._name}") if data else None
        if how is Spoil.HALF and len(data) > 1:
            self._broken = True
            return data[: len(data) // 2]
        if how is not None:
            await self._break()
        return data

    async def aclose(self) -> None:
        """Close."""
        await self._stream.aclose()

    async def _break(self) -> Never:
        self._broken = True
        await self._stream.aclose()
        raise trio.BrokenResourceError("the connection was cut")


class _SpoiledNode(RpcNode):
    """A node one of whose calls, alone or in a batch, goes wrong."""

    def __init__(self, node: RpcNode, name: str, spoiler: Spoiler) -> None:
        super().__init__(node.chain, node.faults)
        self._name, self._spoiler = name, spoiler

    def _begin_one(self, request: Any, own: SessionMethods) -> Begun:
        how = self._spoiler.strikes(f"{self._name} {request['method']}")
        match how:
            case Spoil.CUT:
                raise HangUp
            case Spoil.CUT_AFTER:
                super()._begin_one(request, own)
                raise HangUp
            case Spoil.HANG:
                return Begun(request["id"], later=_never)
            case Spoil.ERROR:
                return Begun(request["id"], error=NodeError(-32000, "header not found"))
            case Spoil.UNAVAILABLE:
                return Begun(request["id"], error=NodeError(-32603, "internal error"))
            case Spoil.BUSY:
                return Begun(request["id"], error=NodeError(LIMIT_EXCEEDED, "limit exceeded"))
            case Spoil.NOT_FOUND:
                return Begun(request["id"])
            case Spoil.GARBAGE:
                return Begun(request["id"], {"what": ["is", 7]})
            case Spoil.TRUNCATED:
                self.faults.script(NodeFault.TRUNCATED)
        return super()._begin_one(request, own)


async def _never() -> Never:
    await trio.sleep_forever()
    raise AssertionError


_STATUS = {
    Spoil.ERROR: Status.UNKNOWN,
    Spoil.BUSY: Status.RESOURCE_EXHAUSTED,
    Spoil.UNAVAILABLE: Status.UNAVAILABLE,
    Spoil.NOT_FOUND: Status.NOT_FOUND,
}


async def _call(spoiler: Spoiler, name: str, path: str, method: Method, request: bytes) -> bytes:
    how = spoiler.strikes(f"{name} {path.rpartition('/')[2]}")
    match how:
        case None:
            return await method(request)
        case Spoil.CUT:
            raise CutConnection
        case Spoil.CUT_AFTER | Spoil.TRUNCATED:
            await method(request)
            raise CutConnection
        case Spoil.HANG:
            await trio.sleep_forever()
        case Spoil.GARBAGE:
            raise GoAway
    raise GrpcFailure(_STATUS[how])


_HTTP = {
    Spoil.ERROR: s3_error(500, "InternalError"),
    Spoil.BUSY: s3_error(503, "SlowDown"),
    Spoil.UNAVAILABLE: s3_error(403, "AccessDenied"),
    Spoil.NOT_FOUND: s3_error(404, "NoSuchKey"),
    Spoil.GARBAGE: HttpResponse(200, (), b"no ciphertext"),
}


async def _get(
    spoiler: Spoiler,
    name: str,
    handle: Callable[[HttpRequest], Awaitable[HttpResponse]],
    request: HttpRequest,
) -> HttpResponse:
    how = spoiler.strikes(f"{name} {request.method}")
    if how in {Spoil.CUT, Spoil.CUT_AFTER, Spoil.TRUNCATED}:
        raise HangUp
    if how is Spoil.HANG:
        await trio.sleep_forever()
    return _HTTP[how] if how is not None else await handle(request)
