"""A gRPC server as a process of its own, on grpcio or grpclib: ``grpc_peer_process.py grpcio|grpclib [port [folder]]``.

With a folder, grpcio serves TLS with its ``key.pem`` and ``certificate.pem``. The process prints its port and serves
until its standard input ends. All methods take and give raw bytes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.server import Server

MAX_MESSAGE = 100 * 1024 * 1024

Fail = Callable[[int, str], Awaitable[bytes]]


class Methods:
    """What both servers do; ``fail`` ends a call in the server's own way."""

    def __init__(self) -> None:
        self.cancellations = 0

    async def echo(self, request: bytes, _: Fail) -> bytes:
        return request

    async def make(self, request: bytes, _: Fail) -> bytes:
        return bytes(range(256)) * (int(request) // 256)

    async def length(self, request: bytes, _: Fail) -> bytes:
        return b"%d" % len(request)

    async def fail(self, request: bytes, fail: Fail) -> bytes:
        code, _, text = request.decode().partition(":")
        return await fail(int(code), text)

    async def hang(self, request: bytes, _: Fail) -> bytes:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancellations += 1
            raise
        return request

    async def sleep(self, request: bytes, _: Fail) -> bytes:
        await asyncio.sleep(float(request))
        return request

    async def cancelled(self, _request: bytes, _: Fail) -> bytes:
        return b"%d" % self.cancellations

    def table(self) -> dict[str, Callable[[bytes, Fail], Awaitable[bytes]]]:
        names = ("Echo", "Make", "Length", "Fail", "Hang", "Sleep", "Cancelled")
        return {f"/test.Peer/{name}": getattr(self, name.lower()) for name in names}


async def serve_grpcio(port: int, folder: Path | None) -> None:
    import grpc
    import grpc.aio

    codes = {code.value[0]: code for code in grpc.StatusCode}
    table = Methods().table()

    class Generic(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            method = table.get(details.method)
            if method is None:
                return None

            async def run(request: bytes, context: Any) -> bytes:
                return await method(request, lambda code, text: context.abort(codes[code], text))

            return grpc.unary_unary_rpc_method_handler(run)

    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE),
        ("grpc.max_send_message_length", MAX_MESSAGE),
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((Generic(),))
    address = f"127.0.0.1:{port}"
    if folder is None:
        port = server.add_insecure_port(address)
    else:
        pair = ((folder / "key.pem").read_bytes(), (folder / "certificate.pem").read_bytes())
        port = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    print(port, flush=True)  # noqa: T201 - its port is its output
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


class RawCodec(CodecBase):
    """Leaves bytes as they are."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class Service:
    """The methods as grpclib wants them."""

    def __mapping__(self) -> dict[str, Handler]:
        return {
            path: Handler(self._handler(method), Cardinality.UNARY_UNARY, bytes, bytes)
            for path, method in Methods().table().items()
        }

    @staticmethod
    def _handler(method: Callable[[bytes, Fail], Awaitable[bytes]]) -> Callable[[Any], Awaitable[None]]:
        async def fail(code: int, text: str) -> bytes:
            raise GRPCError(Status(code), text)

        async def run(stream: Any) -> None:
            await stream.send_message(await method(await stream.recv_message(), fail))

        return run


async def serve_grpclib(port: int, _: Path | None) -> None:
    server = Server([Service()], codec=RawCodec())
    await server.start("127.0.0.1", port)
    print(server._server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - its port is its output
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    serve = {"grpcio": serve_grpcio, "grpclib": serve_grpclib}[sys.argv[1]]
    port, folder = (*sys.argv[2:], *("0", "")[len(sys.argv) - 2 :])
    asyncio.run(serve(int(port), Path(folder) if folder else None))
