"""Which hostile answer can stand in the place of which, and emulated dependencies that give it while that is on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import attrs
import msgspec
import trio

from kmsconn.emulator.aws_kms import EmulatedAwsKms
from kmsconn.emulator.buckets import BucketFault
from kmsconn.emulator.core_faults import CoreFault
from kmsconn.emulator.core_spoils import HEALTH, InterceptedCall
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.grpc_server import Verbatim
from kmsconn.emulator.http import HttpRequest, HttpResponse
from kmsconn.emulator.network import Handler, MemoryNetwork
from kmsconn.emulator.node_faults import NodeError
from kmsconn.emulator.rpc import Begun, RpcNode, SessionMethods
from tests.faults.hostile.connections import BODIES, ENDLESS, HTTP, HTTP2, METADATA, WEBSOCKET, FramedStream
from tests.faults.hostile.json_rpc import ERRORS, MESSAGES, RESULTS
from tests.faults.hostile.services import AWS, GRPC, PROTOBUF

LIES: Mapping[str, Mapping[str, Any]] = {
    "result": RESULTS,
    "error": ERRORS,
    "message": MESSAGES,
    "push": RESULTS,
    "http": HTTP,
    "metadata": METADATA,
    "body": BODIES,
    "protobuf": PROTOBUF,
    "grpc": GRPC,
    "websocket": WEBSOCKET,
    "http2": HTTP2,
    "aws": AWS,
}
"""What is said, by kind and name."""


@attrs.frozen
class Lie:
    """What stands in an answer's place: ``kind`` says in which part of it, ``name`` what it is."""

    kind: str
    name: str

    @property
    def content(self) -> Any:
        """What is said, or what makes it of the honest answer."""
        return LIES[self.kind][self.name]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def subject_of(method: str, params: Sequence[Any]) -> str:
    """Return the kind of answer that a JSON-RPC request wants: its method, and for a call of a contract the function's selector."""
    if method == "eth_call":
        return f"eth_call {params[0].get('data', params[0].get('input', '0x'))[:10]}"
    if method == "eth_getBlockByNumber":
        return f"{method} {params[0] if params[0].isalpha() else 'number'}"
    return f"{method} {params[0]}" if method == "eth_subscribe" else method


def lies_about(subject: str) -> list[Lie]:
    """Return every lie that can stand in the place of this answer."""
    who, _, what = subject.partition(" ")
    rows = (
        (what in {"batch", "answer"}, ("message",)),
        (what == "frame", ("http2" if who.startswith("core") else "websocket",)),
        (who == "aws", ("aws",)),
        (what.startswith("push"), ("push",)),
        (what == "http", ("http",)),
        (what == "HEAD", ("metadata",)),
        (what == "GET", ("metadata", "body")),
        (who.startswith("core"), ("protobuf", "grpc")),
        (what.startswith(("eth_", "debug_")), ("result", "error")),
    )
    kinds = next((kinds for meant, kinds in rows if meant), ())
    return [Lie(kind, name) for kind in kinds for name in LIES[kind]]


@attrs.define(eq=False)
class Hostility:
    """Replaces the answers of one subject while it is on; counts every subject that was asked."""

    subject: str = ""
    lie: Lie | None = None
    on: bool = False
    asked: dict[str, int] = attrs.field(factory=dict)
    struck: int = 0

    def strikes(self, subject: str) -> Lie | None:
        """Count an answer; say what stands in its place, if anything does."""
        if not self.on:
            return None
        self.asked[subject] = self.asked.get(subject, 0) + 1
        if self.lie is None or not fnmatchcase(subject, self.subject):
            return None
        self.struck += 1
        return self.lie

    def changed(self, subject: str, honest: bytes) -> bytes:
        """Return what is sent in the place of some bytes."""
        lie = self.strikes(subject)
        return honest if lie is None else bytes(lie.content(honest))

    def settle(self, dependencies: EmulatedDependencies, network: MemoryNetwork) -> None:
        """Let dependencies be dialled on a memory network, their answers perhaps hostile."""
        for name, cluster in dependencies.clusters.items():
            cluster.nodes[:] = [_HostileNode(node, name, self) for node in cluster.nodes]
        for name, core in dependencies.cores_by_name.items():
            for method in (None, HEALTH):
                core.strike(_HostileCalls(hostility=self, core=name), method)
        for index, bucket in enumerate(dependencies.buckets):
            bucket.strike(_HostileObjects(hostility=self, bucket=f"bucket{index}"))
        dependencies.settle_in_memory(network)
        for name, place in dependencies.places.items():
            network.serve(*place, partial(self._connection, name, dependencies.handler(name)))

    async def _connection(self, name: str, handler: Handler, stream: trio.abc.Stream) -> None:
        """Serve one connection; one of HTTP/1.1 perhaps hostile from the first request on."""
        http2 = name.startswith("core")
        lie = None if http2 else self.strikes(f"{name} http")
        if lie is None:
            frames = partial(self.changed, f"{name} frame")
            await handler(FramedStream(stream, frames, upgrades=not http2))
            return
        await stream.receive_some()
        await stream.send_all(lie.content)
        while lie.name in ENDLESS and self.on:
            await trio.sleep(0.1)
            await stream.send_all(ENDLESS[lie.name])

    async def sign(self, kms: EmulatedAwsKms, request: HttpRequest) -> HttpResponse:
        """Answer for AWS KMS."""
        honest = await kms.handle(request)
        lie = self.strikes(f"aws {(request.header('x-amz-target') or '').rpartition('.')[2]}")
        if lie is None:
            return honest
        status, body = lie.content(honest.body)
        return attrs.evolve(honest, status=status, body=body)


class _HostileCalls(CoreFault, frozen=True):
    """Of a Core."""

    name = "hostile"
    hostility: Any = None
    core: str = ""

    async def act(self, call: InterceptedCall) -> bytes:
        lie = self.hostility.strikes(f"{self.core} {call.method}")
        if lie is None:
            return await call.proceed()
        if lie.kind == "grpc":
            await trio.lowlevel.checkpoint()
            raise Verbatim(*lie.content)
        return bytes(lie.content(await call.proceed()))


class _HostileObjects(BucketFault, frozen=True):
    """Of a bucket."""

    name = "hostile"
    hostility: Any = None
    bucket: str = ""

    def act(self, request: HttpRequest, honest: HttpResponse) -> HttpResponse:
        lie = self.hostility.strikes(f"{self.bucket} {request.method}")
        if lie is None:
            return honest
        if lie.kind == "body":
            return attrs.evolve(honest, body=lie.content(honest.body) if honest.body else b"")
        return attrs.evolve(honest, headers=tuple(lie.content.items()))


class _HostileNode(RpcNode):
    """A node whose answers may be hostile."""

    def __init__(self, node: RpcNode, name: str, hostility: Hostility) -> None:
        super().__init__(node.chain, node.faults)
        self._name, self._hostility = name, hostility

    def _carry_out(self, method: str, params: Sequence[Any], own: SessionMethods) -> Any:
        lie = self._hostility.strikes(f"{self._name} {subject_of(method, params)}")
        if lie is None:
            return super()._carry_out(method, [*params], own)
        if lie.kind == "error":
            raise _HostileError(0, "", msgspec.Raw(lie.content))
        return msgspec.Raw(lie.content)

    async def finish(self, begun: Begun) -> bytes:
        subject = f"{self._name} {'answer' if begun.alone else 'batch'}"
        return self._hostility.changed(subject, await super().finish(begun))

    def pushed(self, content: Any) -> Any:
        lie = self._hostility.strikes(f"{self._name} push of {'a log' if 'topics' in content else 'a head'}")
        return content if lie is None else msgspec.Raw(lie.content)


class _HostileError(NodeError):
    def as_json(self) -> Any:
        return self.data
