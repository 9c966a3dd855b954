"""Emulated dependencies whose answers of one subject are replaced by hostile ones while that is on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import attrs
import msgspec
import trio
import trio.testing

from kmsconn.emulator.aws_kms import EmulatedAwsKms
from kmsconn.emulator.buckets import serve_bucket
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.grpc_server import Method, Verbatim, serve_grpc
from kmsconn.emulator.http import HttpRequest, HttpResponse
from kmsconn.emulator.network import Handler, MemoryNetwork
from kmsconn.emulator.rpc import RpcNode
from kmsconn.emulator.rpc_answers import Begun, Carried, SessionMethods
from kmsconn.testing.hostile.aws import operation_of
from kmsconn.testing.hostile.frames import FramedStream
from kmsconn.testing.hostile.http import ENDLESS
from kmsconn.testing.hostile.lies import Lie, subject_of


class Hostility:
    """Replaces the answers of one subject while it is on; counts every subject that was asked."""

    def __init__(self, subject: str = "", lie: Lie | None = None) -> None:
        self.subject, self.lie = subject, lie
        self.on = False
        self.asked: dict[str, int] = {}
        self.struck = 0

    def strikes(self, subject: str) -> Lie | None:
        """Count an answer; say what stands in its place, if anything does."""
        if not self.on:
            return None
        self.asked[subject] = self.asked.get(subject, 0) + 1
        if self.lie is None or not fnmatchcase(subject, self.subject):
            return None
        self.struck += 1
        return self.lie

    def settle(self, dependencies: EmulatedDependencies, network: MemoryNetwork) -> None:
        """Let dependencies be dialled on a memory network, their answers perhaps hostile."""
        for name, cluster in dependencies.clusters.items():
            cluster.nodes[:] = [_HostileNode(node, name, self) for node in cluster.nodes]
        dependencies.settle_in_memory(network)
        for index, core in enumerate(dependencies.cores):
            name = f"core{index}"
            methods = {path: partial(_call, self, name, path, one) for path, one in core.methods().items()}
            network.serve(*dependencies.places[name], partial(_serve_core, self, name, methods))
        for index, bucket in enumerate(dependencies.buckets):
            name = f"bucket{index}"
            handler = partial(serve_bucket, partial(_get, self, name, bucket.handle))
            network.serve(*dependencies.places[name], partial(_connection, self, name, handler))
        for name, cluster in dependencies.clusters.items():
            network.serve(*dependencies.places[name], partial(_connection, self, name, cluster.serve))

    def frames(self, name: str, honest: bytes) -> bytes:
        """Return what a server sends in the place of a few frames."""
        lie = self.strikes(f"{name} frame")
        return honest if lie is None else bytes(lie.content(honest))


async def _serve_core(
    hostility: Hostility, name: str, methods: Mapping[str, Method], stream: trio.abc.Stream
) -> None:
    await serve_grpc(FramedStream(stream, partial(hostility.frames, name)), methods=methods)


async def _connection(hostility: Hostility, name: str, handler: Handler, stream: trio.abc.Stream) -> None:
    """Serve one connection of HTTP, or let everything on it be hostile from the first request on."""
    lie = hostility.strikes(f"{name} http")
    if lie is None:
        await handler(FramedStream(stream, partial(hostility.frames, name), upgrades=True))
        return
    await stream.receive_some()
    await stream.send_all(lie.content)
    while lie.name in ENDLESS and hostility.on:
        await trio.sleep(0.1)
        await stream.send_all(ENDLESS[lie.name])


async def _call(hostility: Hostility, name: str, path: str, method: Method, request: bytes) -> bytes:
    lie = hostility.strikes(f"{name} {path.rpartition('/')[2]}")
    if lie is None:
        return await method(request)
    if lie.kind == "grpc":
        await trio.lowlevel.checkpoint()
        raise Verbatim(*lie.content)
    return bytes(lie.content(await method(request)))


async def _sign(hostility: Hostility, kms: EmulatedAwsKms, request: HttpRequest) -> HttpResponse:
    honest = await kms.handle(request)
    lie = hostility.strikes(f"aws {operation_of(request)}")
    if lie is None or not isinstance(honest.body, bytes):
        return honest
    status, body = lie.content(honest.body)
    return attrs.evolve(honest, status=status, body=body)


async def _get(
    hostility: Hostility,
    name: str,
    handle: Callable[[HttpRequest], Awaitable[HttpResponse]],
    request: HttpRequest,
) -> HttpResponse:
    honest = await handle(request)
    lie = hostility.strikes(f"{name} {request.method}")
    if lie is None or not isinstance(honest.body, bytes):
        return honest
    if lie.kind == "body":
        return attrs.evolve(honest, body=lie.content(honest.body) if honest.body else b"")
    return attrs.evolve(honest, headers=tuple(lie.content.items()))


class _HostileNode(RpcNode):
    """A node whose answers may be hostile."""

    def __init__(self, node: RpcNode, name: str, hostility: Hostility) -> None:
        super().__init__(node.chain, node.faults)
        self._name, self._hostility = name, hostility

    def _begin_one(self, request: Any, own: SessionMethods) -> Carried:
        lie = self._hostility.strikes(f"{self._name} {subject_of(request)}")
        if lie is None:
            return super()._begin_one(request, own)
        return _Crooked(request["id"], lie=lie)

    async def finish(self, begun: Begun) -> bytes:
        honest = await super().finish(begun)
        lie = self._hostility.strikes(f"{self._name} {'answer' if begun.alone else 'batch'}")
        return honest if lie is None else bytes(lie.content(honest))

    def pushed(self, content: Any) -> Any:
        lie = self._hostility.strikes(f"{self._name} push of {'a log' if 'topics' in content else 'a head'}")
        return content if lie is None else msgspec.Raw(lie.content)


@attrs.frozen(kw_only=True)
class _Crooked(Carried):
    """An answer with a hostile result or error."""

    lie: Lie

    def as_json(self) -> dict[str, Any]:
        head = {"jsonrpc": "2.0", "id": self.id}
        return {**head, self.lie.kind: msgspec.Raw(self.lie.content)}
