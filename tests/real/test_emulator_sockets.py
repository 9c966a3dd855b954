"""The emulated dependencies over real loopback sockets, asked by libraries that are not ours."""

from __future__ import annotations

import socket
import sys
from functools import partial
from urllib.request import urlopen

import grpc
import pytest
import trio
import trio.testing

from kmsconn._generated.fhevm.kms.v1 import PublicDecryptionResponse
from kmsconn.emulator.buckets import EmulatedBucket
from kmsconn.emulator.core import PUBLIC, SERVICE
from kmsconn.emulator.core_faults import CoreFaults, FailingCore
from kmsconn.emulator.grpc_server import serve_grpc
from kmsconn.emulator.network import HOST, TogglePort, reserve_ports, serve_sockets
from tests.unit.emulator.core_worlds import core, name, public_id, public_request


def call(port: int, method: str, message: bytes, seconds: float = 20) -> bytes:
    """Make one unary call with grpcio; in a thread."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        reply: bytes = channel.unary_unary(f"/{SERVICE}/{method}")(message, timeout=seconds)
        return reply


async def serving(nursery: trio.Nursery, faults: CoreFaults) -> int:
    port: int = await nursery.start(serve_sockets, partial(serve_grpc, methods=faults.methods()))
    return port


async def test_grpcio_starts_and_reads_a_decryption(nursery: trio.Nursery) -> None:
    port = await serving(nursery, CoreFaults(core()))
    in_thread = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
    assert await in_thread(call, port, PUBLIC.start, bytes(public_request())) == b""
    reply = await in_thread(call, port, PUBLIC.result, bytes(name(public_id(1))))
    payload = PublicDecryptionResponse.parse(reply).payload
    assert payload is not None
    assert [each.fhe_type for each in payload.plaintexts] == [5, 0]
    nursery.cancel_scope.cancel()


async def test_grpcio_sees_statuses_and_messages(nursery: trio.Nursery) -> None:
    faults = CoreFaults(core())
    faults.script(PUBLIC.start, FailingCore(code="RESOURCE_EXHAUSTED", message="busy: 100% ü"))
    port = await serving(nursery, faults)

    def refused() -> tuple[grpc.StatusCode, str]:
        try:
            call(port, PUBLIC.start, b"")
        except grpc.RpcError as error:
            return error.code(), error.details()
        raise AssertionError

    assert await trio.to_thread.run_sync(refused) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "busy: 100% ü")
    nursery.cancel_scope.cancel()


async def test_grpcio_sends_a_request_of_many_megabytes(nursery: trio.Nursery) -> None:
    async def size(message: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return len(message).to_bytes(8)

    methods = {f"/{SERVICE}/Size": size}
    port: int = await nursery.start(serve_sockets, partial(serve_grpc, methods=methods))
    reply = await trio.to_thread.run_sync(call, port, "Size", bytes(20_000_000))
    assert int.from_bytes(reply) == 20_000_000
    nursery.cancel_scope.cancel()


async def test_urllib_fetches_an_object(nursery: trio.Nursery) -> None:
    bucket = EmulatedBucket("/ct")
    bucket.put("key", bytes(range(256)) * 4096, (("x-amz-meta-ct-format", "compressed_on_cpu"),))
    port: int = await nursery.start(serve_sockets, bucket.serve)

    def fetch() -> tuple[str, bytes]:
        with urlopen(f"http://127.0.0.1:{port}/ct/key", timeout=20) as response:
            return response.headers["x-amz-meta-ct-format"], response.read()

    assert await trio.to_thread.run_sync(fetch) == ("compressed_on_cpu", bytes(range(256)) * 4096)
    nursery.cancel_scope.cancel()


def test_who_was_told_a_reserved_port_listens_on_it_again_and_again() -> None:
    """As a connector does whose configuration file the emulator wrote, at each of its starts."""
    with reserve_ports(2) as ports:
        for port in (*ports, *ports):
            with socket.create_server((HOST, port)), socket.create_connection((HOST, port)):
                pass
    assert len({*ports}) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a port for others")
def test_a_reserved_port_is_given_to_nobody_else() -> None:
    """Else a program of the machine that asks for any port could take it between two starts of a connector."""
    with reserve_ports(1) as (port,), socket.socket() as other:
        with pytest.raises(OSError, match="in use"):
            other.bind((HOST, port))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port))


PATIENCE = 20


async def echo(stream: trio.abc.Stream) -> None:
    async for chunk in stream:
        await stream.send_all(chunk)


async def said_back(stream: trio.abc.Stream) -> bytes:
    await stream.send_all(b"hello")
    return bytes(await stream.receive_some(5))


async def test_a_port_that_is_shut_cuts_and_refuses_until_it_is_opened_again_at_its_place(
    nursery: trio.Nursery,
) -> None:
    with trio.fail_after(PATIENCE):
        toggle_port = TogglePort(echo)
        port = await nursery.start(toggle_port.serve)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            assert await said_back(stream) == b"hello"
            toggle_port.shut()
            assert await stream.receive_some(5) == b""
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(OSError, match=str(port)):
            await trio.open_tcp_stream("127.0.0.1", port)
        for turn in (toggle_port.shut, toggle_port.open, toggle_port.open):
            turn()
            await trio.testing.wait_all_tasks_blocked()
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            assert await said_back(stream) == b"hello"
