"""Counts every call that reaches a dependency, JSON-RPC, gRPC or HTTP, and every burst of bytes, and spoils one. Never spoils two.

A spoiled call is what an honest dependency in trouble may do, so everything must be answered all the same. Lies are for other tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from typing import Any, Never

import trio

from kmsconn.emulator.buckets import BucketFault, RefusingBucket, SpoiledBodies
from kmsconn.emulator.core_faults import CoreFault, FailingCore, HangingCore, SpoiledCore
from kmsconn.emulator.core_spoils import HEALTH, InterceptedCall
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.http import Handler, HangUp, HttpRequest, HttpResponse, serve_http
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.node_faults import (
    LIMIT_EXCEEDED,
    CallFault,
    FalseResults,
    HangingCalls,
    Honest,
    NodeFault,
    RefusedCalls,
)
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
        dependencies.settle_in_memory(network)
        for name, cluster in dependencies.clusters.items():
            for node in cluster.nodes:
                node.faults.strike(_RpcCall(spoiler=self, node=name, faults=node.faults))
        for name, core in dependencies.cores_by_name.items():
            for method in (None, HEALTH):
                core.strike(_CoreCall(spoiler=self, core=name), method)
        for index, bucket in enumerate(dependencies.buckets):
            name = f"bucket{index}"
            handler = partial(_get, self, name, bucket.handle)
            network.serve(*dependencies.places[name], partial(serve_http, handler=handler, max_body=0))

    def dial(self, dial: Dial) -> Dial:
        """Return how the connector dials, its bytes counted."""

        async def counted(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
            return _CountedStream(await dial(host, port, tls=tls), host, self)

        return counted


class _CountedStream(WrappedStream):
    """A stream that may break at a burst."""

    def __init__(self, stream: trio.abc.Stream, name: str, spoiler: Spoiler) -> None:
        super().__init__(stream)
        self._name, self._spoiler = name, spoiler
        self._broken = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it, half of it or nothing."""
        how = self._spoiler.strikes_burst(f"to {self._name}")
        if how is Spoil.HALF:
            await self._stream.send_all(memoryview(data)[: len(data) // 2])
        if how is not None:
            await self._break()
        await self._stream.send_all(data)

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

    async def _break(self) -> Never:
        self._broken = True
        await self._stream.aclose()
        raise trio.BrokenResourceError("the connection was cut")


class _RpcCall(CallFault, frozen=True):
    """Counts the calls of a node, alone or in a batch, and spoils one."""

    name = "spoiler"
    spoiler: Any = None
    node: str = ""
    faults: Any = None

    def act(self, method: str, honest: Honest) -> Any:
        how = self.spoiler.strikes(f"{self.node} {method}")
        if how is Spoil.CUT_AFTER:
            honest()
        if how in {Spoil.CUT, Spoil.CUT_AFTER}:
            raise HangUp
        if how is Spoil.TRUNCATED:
            self.faults.misbehave(NodeFault.TRUNCATED, times=1)
        return _RPC[how].act(method, honest) if how in _RPC else honest()


_RPC: Mapping[Spoil, CallFault] = {
    Spoil.HANG: HangingCalls(),
    Spoil.ERROR: RefusedCalls(message="header not found"),
    Spoil.UNAVAILABLE: RefusedCalls(code=-32603),
    Spoil.BUSY: RefusedCalls(code=LIMIT_EXCEEDED, message="limit exceeded"),
    Spoil.NOT_FOUND: FalseResults(),
    Spoil.GARBAGE: FalseResults(value={"what": ["is", 7]}),
}


class _CoreCall(CoreFault, frozen=True):
    """Counts the calls of a Core, and spoils one."""

    name = "spoiler"
    spoiler: Any = None
    core: str = ""

    async def act(self, call: InterceptedCall) -> bytes:
        how = self.spoiler.strikes(f"{self.core} {call.method}")
        return await (call.proceed() if how is None else _CORE[how].act(call))


_CORE: Mapping[Spoil, CoreFault] = {
    Spoil.CUT: SpoiledCore(how="cut"),
    Spoil.CUT_AFTER: SpoiledCore(how="cut after"),
    Spoil.TRUNCATED: SpoiledCore(how="cut after"),
    Spoil.HANG: HangingCore(),
    Spoil.ERROR: FailingCore(code="UNKNOWN"),
    Spoil.BUSY: FailingCore(code="RESOURCE_EXHAUSTED"),
    Spoil.UNAVAILABLE: FailingCore(code="UNAVAILABLE"),
    Spoil.NOT_FOUND: FailingCore(code="NOT_FOUND"),
    Spoil.GARBAGE: SpoiledCore(how="go away"),
}
_BUCKET: Mapping[Spoil, BucketFault] = {
    Spoil.ERROR: RefusingBucket(code=500),
    Spoil.BUSY: RefusingBucket(code=503),
    Spoil.UNAVAILABLE: RefusingBucket(code=403),
    Spoil.NOT_FOUND: RefusingBucket(code=404),
    Spoil.GARBAGE: SpoiledBodies(),
}


async def _get(spoiler: Spoiler, name: str, handle: Handler, request: HttpRequest) -> HttpResponse:
    how = spoiler.strikes(f"{name} {request.method}")
    if how in {Spoil.CUT, Spoil.CUT_AFTER, Spoil.TRUNCATED}:
        raise HangUp
    if how is Spoil.HANG:
        await trio.sleep_forever()
    honest = await handle(request)
    return honest if how is None else _BUCKET[how].act(request, honest)
