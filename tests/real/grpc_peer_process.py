"""A gRPC server as a process of its own: ``grpc_peer_process.py grpcio|grpclib|emulated [options as JSON]``.

All three serve the same methods, which take and give raw bytes. The process prints its port and serves until its
standard input ends. ``emulated`` is the server of the emulated Core, on a socket.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import attrs
import trio
from grpclib.config import Configuration
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.server import Server

import kmsconn

MAX_MESSAGE = 100 * 1024 * 1024


@attrs.frozen
class Options:
    """How to serve. ``folder`` holds ``key.pem`` and ``certificate.pem`` for TLS; an authority asks clients for theirs."""

    port: int = 0
    folder: str = ""
    authority: str = ""
    protocols: tuple[str, ...] = ("h2",)
    max_message: int = MAX_MESSAGE
    max_streams: int | None = None
    window: int | None = None
    age_ms: int | None = None
    ping_ms: int | None = None

    @classmethod
    def parse(cls, text: str) -> Options:
        """Read the command line's JSON."""
        return cls(**json.loads(text))

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS context of a server in Python."""
        if not self.folder:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.authority or None)
        context.load_cert_chain(Path(self.folder) / "certificate.pem", Path(self.folder) / "key.pem")
        if self.protocols:
            context.set_alpn_protocols(list(self.protocols))
        if self.authority:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class Call:
    """What a method may do beside answering, in the server's own way."""

    async def fail(self, code: int, text: str) -> NoReturn:
        """End the call with a status."""
        raise NotImplementedError

    async def trail(self, size: int) -> None:
        """Send a field of so many bytes with the trailers."""
        raise NotImplementedError

    async def go_away(self) -> NoReturn:
        """Say that this call was not processed."""
        raise NotImplementedError


class Methods:
    """What all servers do; ``sleep`` is that of the server's loop."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._sleep = sleep
        self.hung = self.cancellations = 0
        self.running = self.peak = 0

    async def echo(self, request: bytes, _: Call) -> bytes:
        return request

    async def make(self, request: bytes, _: Call) -> bytes:
        return bytes(range(256)) * (int(request) // 256)

    async def length(self, request: bytes, _: Call) -> bytes:
        return b"%d" % len(request)

    async def fail(self, request: bytes, call: Call) -> bytes:
        code, _, text = request.decode().partition(":")
        await call.fail(int(code), text)

    async def trail(self, request: bytes, call: Call) -> bytes:
        await call.trail(int(request))
        return request

    async def goaway(self, _: bytes, call: Call) -> bytes:
        await call.go_away()

    async def hang(self, request: bytes, _: Call) -> bytes:
        self.hung += 1
        try:
            await self._sleep(3600)
        finally:
            self.cancellations += 1
        return request

    async def sleep(self, request: bytes, _: Call) -> bytes:
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await self._sleep(float(request))
        finally:
            self.running -= 1
        return request

    async def peak_of_sleepers(self, _request: bytes, _: Call) -> bytes:
        return b"%d" % self.peak

    async def hung_so_far(self, _request: bytes, _: Call) -> bytes:
        return b"%d" % self.hung

    async def cancelled(self, _request: bytes, _: Call) -> bytes:
        return b"%d" % self.cancellations

    def table(self) -> dict[str, Callable[[bytes, Call], Awaitable[bytes]]]:
        named = {
            "Echo": self.echo,
            "Make": self.make,
            "Length": self.length,
            "Fail": self.fail,
            "Trail": self.trail,
            "GoAway": self.goaway,
            "Hang": self.hang,
            "Sleep": self.sleep,
            "Peak": self.peak_of_sleepers,
            "Hung": self.hung_so_far,
            "Cancelled": self.cancelled,
        }
        return {f"/test.Peer/{name}": method for name, method in named.items()}


def say(port: int) -> None:
    print(port, flush=True)  # noqa: T201 - its port is its output


# grpcio.


class GrpcioCall(Call):
    def __init__(self, context: Any) -> None:
        self._context = context

    async def fail(self, code: int, text: str) -> NoReturn:
        import grpc

        await self._context.abort({code.value[0]: code for code in grpc.StatusCode}[code], text)
        raise AssertionError

    async def trail(self, size: int) -> None:
        self._context.set_trailing_metadata((("x-long", "x" * size),))


def grpcio_options(options: Options) -> list[tuple[str, int]]:
    chosen = {
        "grpc.max_receive_message_length": options.max_message,
        "grpc.max_send_message_length": MAX_MESSAGE,
        "grpc.so_reuseport": 0,
        "grpc.max_concurrent_streams": options.max_streams,
        "grpc.http2.lookahead_bytes": options.window,
        "grpc.max_connection_age_ms": options.age_ms,
        "grpc.keepalive_time_ms": options.ping_ms,
        "grpc.keepalive_permit_without_calls": None if options.ping_ms is None else 1,
    }
    return [(name, value) for name, value in chosen.items() if value is not None]


def grpcio_credentials(options: Options) -> Any:
    import grpc

    pair = tuple((Path(options.folder) / name).read_bytes() for name in ("key.pem", "certificate.pem"))
    authority = Path(options.authority).read_bytes() if options.authority else None
    return grpc.ssl_server_credentials([pair], authority, bool(options.authority))


async def serve_grpcio(options: Options) -> None:
    import grpc
    import grpc.aio

    table = Methods(asyncio.sleep).table()

    class Generic(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            method = table.get(details.method)
            if method is None:
                return None

            async def run(request: bytes, context: Any) -> bytes:
                return await method(request, GrpcioCall(context))

            return grpc.unary_unary_rpc_method_handler(run)

    server = grpc.aio.server(options=grpcio_options(options))
    server.add_generic_rpc_handlers((Generic(),))
    address = f"127.0.0.1:{options.port}"
    if options.folder:
        say(server.add_secure_port(address, grpcio_credentials(options)))
    else:
        say(server.add_insecure_port(address))
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


# grpclib.


class RawCodec(CodecBase):
    """Leaves bytes as they are."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class GrpclibCall(Call):
    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.trailers: dict[str, str] = {}

    async def fail(self, code: int, text: str) -> NoReturn:
        raise GRPCError(Status(code), text)

    async def trail(self, size: int) -> None:
        self.trailers["x-long"] = "x" * size


class Service:
    """The methods as grpclib wants them."""

    def __mapping__(self) -> dict[str, Handler]:
        return {
            path: Handler(self._handler(method), Cardinality.UNARY_UNARY, bytes, bytes)
            for path, method in Methods(asyncio.sleep).table().items()
        }

    @staticmethod
    def _handler(method: Callable[[bytes, Call], Awaitable[bytes]]) -> Callable[[Any], Awaitable[None]]:
        async def run(stream: Any) -> None:
            call = GrpclibCall(stream)
            await stream.send_message(await method(await stream.recv_message(), call))
            await stream.send_trailing_metadata(metadata=call.trailers)

        return run


async def serve_grpclib(options: Options) -> None:
    config = Configuration()
    if options.window is not None:
        config = Configuration(
            http2_connection_window_size=options.window, http2_stream_window_size=options.window
        )
    server = Server([Service()], codec=RawCodec(), config=config)
    await server.start("127.0.0.1", options.port, ssl=options.context())
    listening = server._server
    assert isinstance(listening, asyncio.Server)
    say(listening.sockets[0].getsockname()[1])
    await asyncio.to_thread(sys.stdin.read)
    server.close()


# The emulated Core's.


class EmulatedCall(Call):
    async def fail(self, code: int, text: str) -> NoReturn:
        from kmsconn.emulator.grpc_server import GrpcFailure
        from kmsconn.transport.grpc.framing import Status

        raise GrpcFailure(Status(code), text)

    async def go_away(self) -> NoReturn:
        from kmsconn.emulator.grpc_server import GoAway

        raise GoAway


async def serve_emulated(options: Options) -> None:
    # the package itself would import all that can be emulated
    bare = sys.modules["kmsconn.emulator"] = ModuleType("kmsconn.emulator")
    bare.__path__ = [str(Path(kmsconn.__file__).with_name("emulator"))]
    from kmsconn.emulator.grpc_server import MAX_CALLS, serve_grpc

    def adapted(method: Callable[[bytes, Call], Awaitable[bytes]]) -> Callable[[bytes], Awaitable[bytes]]:
        return lambda request: method(request, EmulatedCall())

    methods = {path: adapted(method) for path, method in Methods(trio.sleep).table().items()}
    context = options.context()

    async def serve(stream: trio.abc.Stream) -> None:
        secured = stream if context is None else trio.SSLStream(stream, context, server_side=True)
        try:
            async with stream:
                await serve_grpc(
                    secured,
                    methods,
                    max_message=options.max_message,
                    max_calls=options.max_streams or MAX_CALLS,
                )
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(options.port, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        say(listeners[0].socket.getsockname()[1])
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


def main() -> None:
    library, *rest = sys.argv[1:]
    options = Options.parse(*rest or ["{}"])
    if library == "emulated":
        trio.run(serve_emulated, options)
    else:
        asyncio.run({"grpcio": serve_grpcio, "grpclib": serve_grpclib}[library](options))


if __name__ == "__main__":
    main()
