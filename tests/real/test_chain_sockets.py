"""A chain behind real sockets on this machine, by websocket and HTTP, plain and with TLS; and the TCP stream below all clients."""

from __future__ import annotations

import random
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from kmsconn.chain.endpoint import Endpoint, open_endpoint
from kmsconn.chain.logs import read_logs
from kmsconn.chain.port import Call
from kmsconn.config.parties import Chain
from kmsconn.errors import Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.transport.dialling import LeanStream, dial_sockets, sockets
from kmsconn.transport.http import open_http
from kmsconn.transport.ports import Dial, Ports, offload_to_threads
from tests.real.grpc_scene import make_certificate
from tests.unit.chain.scripted_node import CHAIN_ID, Node

HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
async def _limit() -> AsyncIterator[None]:
    with trio.fail_after(20):
        yield


def ports(dial: Dial = dial_sockets) -> Ports:
    return Ports(dial=dial, offload=offload_to_threads, wall=time.time, random=random.random)


@asynccontextmanager
async def listening(
    node: Node, *, websocket: bool, context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    async def handle(stream: Any) -> None:
        try:
            await node.serve(stream, websocket)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async with trio.open_nursery() as nursery:
        listeners: list[Any] = await trio.open_tcp_listeners(0, host=HOST)
        port: int = listeners[0].socket.getsockname()[1]
        if context is not None:
            listeners = [trio.SSLListener(listeners[0], context, https_compatible=True)]
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield port
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def endpoint_at(*urls: str, dial: Dial = dial_sockets) -> AsyncIterator[Endpoint]:
    async with (
        open_http(ports(dial)) as http,
        open_endpoint(Chain(CHAIN_ID, urls), "gateway", ports(dial), http) as endpoint,
    ):
        yield endpoint


def certificates(directory: Path, name: str = "node") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a certificate of this machine, under a name too, and return a server's and a trusting client's context."""
    make_certificate(directory / name)
    certificate, key = directory / name / "certificate.pem", directory / name / "key.pem"
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))


@pytest.mark.parametrize("scheme", ["ws", "http"])
async def test_calls_batches_and_log_reads_go_over_sockets(scheme: str) -> None:
    node = Node()
    node.methods["eth_getBlockByNumber"] = lambda *_: {"number": "0x9", "timestamp": "0x10"}
    node.methods["eth_getLogs"] = lambda _: []
    async with (
        listening(node, websocket=scheme == "ws") as port,
        endpoint_at(f"{scheme}://{HOST}:{port}/") as endpoint,
    ):
        assert await endpoint.call("echo", "x" * 300_000) == "x" * 300_000
        assert await endpoint.batch([Call("echo", (n,)) for n in range(50)]) == list(range(50))
        read = await read_logs(endpoint, Address(b"\x01" * 20), (b"\x02" * 32,), 1, 9)
    assert (read.head.number, read.trusted) == (9, True)


@pytest.mark.parametrize("scheme", ["wss", "https"])
async def test_tls_is_checked_against_the_trusted_authorities(scheme: str, tmp_path: Path) -> None:
    server, client = certificates(tmp_path)
    async with listening(Node(), websocket=scheme == "wss", context=server) as port:
        url = f"{scheme}://{HOST}:{port}/"
        async with endpoint_at(url, dial=sockets(ssl_context=client)) as endpoint:
            assert await endpoint.call("echo", 1) == 1
        async with endpoint_at(url) as endpoint:
            with pytest.raises(Unreachable, match="certificate verify failed"):
                await endpoint.call("echo", 1)


async def test_nobody_there_is_an_os_error() -> None:
    with pytest.raises(OSError, match="connect"):
        await dial_sockets(HOST, 1)


@pytest.mark.parametrize("name", ["", "a" * 70 + ".example", "-.-", "no-such-host.invalid"])
async def test_a_name_that_is_none_is_an_os_error(name: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011 - resolvers word it in their own ways
        await dial_sockets(name, 1)


async def test_a_forbidden_address_is_refused_before_a_byte_is_sent() -> None:
    judged: list[str] = []

    def allow(address: str) -> bool:
        judged.append(address)
        return False

    node = Node()
    async with listening(node, websocket=False) as port:
        with pytest.raises(ConnectionRefusedError, match="not allowed"):
            await sockets(allow=allow)("localhost", port)
    assert judged == [HOST]
    assert node.frames == []


async def test_alpn_is_offered(tmp_path: Path) -> None:
    server, client = certificates(tmp_path)
    server.set_alpn_protocols(["h2"])
    client.set_alpn_protocols(["h2"])
    async with listening(Node(), websocket=False, context=server) as port:
        stream: Any = await sockets(ssl_context=client)(HOST, port, tls=True)
        assert stream.selected_alpn_protocol() == "h2"
        await trio.aclose_forcefully(stream)


async def test_a_peer_that_speaks_no_tls_is_an_os_error() -> None:
    async with listening(Node(), websocket=False) as port:
        with pytest.raises(ConnectionError, match="TLS with"):
            await sockets(alpn=("h2",))(HOST, port, tls=True)


async def test_cancelling_a_handshake_leaves_no_socket_open() -> None:
    async def silent(stream: trio.abc.Stream) -> None:
        while await stream.receive_some():
            pass
        ended.set()

    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=HOST)
        nursery.start_soon(trio.serve_listeners, silent, listeners)
        with trio.move_on_after(0.1):
            await dial_sockets(HOST, listeners[0].socket.getsockname()[1], tls=True)
        await ended.wait()
        nursery.cancel_scope.cancel()


LARGE = 8 << 20  # bytes: more than the kernel holds for a peer that reads nothing


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[LeanStream, trio.SocketStream]]:
    """Two ends of one connection: ours and the peer's."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        stream = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        peer = await listener.accept()
        async with LeanStream(stream) as ours, peer:
            yield ours, peer


async def receive_all(stream: trio.abc.ReceiveStream, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        received += await stream.receive_some(65536)
    return bytes(received)


async def test_what_is_sent_arrives_both_ways() -> None:
    async with pair() as (ours, peer):
        await ours.send_all(b"there")
        assert await receive_all(peer, 5) == b"there"
        await peer.send_all(b"back")
        assert await receive_all(ours, 4) == b"back"


async def test_more_than_the_kernel_holds_waits_for_the_peer_and_arrives_whole() -> None:
    data = bytes(range(256)) * (LARGE // 256)
    async with pair() as (ours, peer), trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, data)
        assert await receive_all(peer, LARGE) == data


async def test_a_send_that_waits_can_be_cancelled() -> None:
    async with pair() as (ours, _peer):
        with trio.move_on_after(0.05) as scope:
            await ours.send_all(bytes(LARGE))
        assert scope.cancelled_caught


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with pair() as (ours, peer):
        with trio.move_on_after(0.01):
            await ours.receive_some()
        await peer.send_all(b"late")
        assert await receive_all(ours, 4) == b"late"
        assert ours.receive_now(9) == b""
        await peer.send_all(b"now")
        assert ours.receive_now(9) == b"now"


async def test_a_receive_lets_other_tasks_run_though_data_is_there() -> None:
    async with pair() as (ours, peer):
        await peer.send_all(b"x")
        with trio.testing.assert_checkpoints():
            await ours.receive_some(1)


async def test_the_peers_end_is_empty_bytes() -> None:
    async with pair() as (ours, peer):
        await peer.send_eof()
        assert await ours.receive_some() == b""


async def test_our_end_reaches_the_peer_and_leaves_the_other_way_open() -> None:
    async with pair() as (ours, peer):
        await ours.send_eof()
        assert await peer.receive_some() == b""
        await peer.send_all(b"still")
        assert await receive_all(ours, 5) == b"still"


async def test_it_is_readable_once_something_came() -> None:
    async with pair() as (ours, peer):
        assert not ours.is_readable()
        await peer.aclose()
        await ours.receive_some()
        assert ours.is_readable()


async def test_a_connection_that_is_reset_is_broken() -> None:
    async with pair() as (ours, peer):
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await peer.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await ours.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await ours.send_all(b"x")


async def test_a_closed_stream_says_so_and_closes_twice() -> None:
    async with pair() as (ours, _peer):
        await ours.aclose()
        await ours.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await ours.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await ours.wait_send_all_might_not_block()


async def test_who_receives_while_it_is_closed_is_told() -> None:
    async with pair() as (ours, _peer), trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await ours.receive_some()

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await ours.aclose()
