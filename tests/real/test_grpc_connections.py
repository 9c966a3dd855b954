"""The life of a connection with real servers: limits, windows, GOAWAY, pings, a peer that dies. One server for each test."""

from __future__ import annotations

import random
import signal
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from kmsconn.config.parties import CoreTls
from kmsconn.emulator.network import reserve_ports
from kmsconn.errors import Unreachable
from kmsconn.transport.grpc import link
from kmsconn.transport.grpc.channel import Channel
from kmsconn.transport.grpc.framing import Status, StatusError
from tests.behaviours import REAL, shows
from tests.real.grpc_scene import channel_to, make_certificate, running_peer

pytestmark = pytest.mark.rotating

MIB = 1024 * 1024


@pytest.fixture
def library(request: pytest.FixtureRequest) -> str:
    """Return the server's library; ``shows`` chooses."""
    return str(request.param)


async def fails(channel: Channel, path: str, match: str | None = None) -> None:
    with pytest.raises(Unreachable, match=match):
        await channel.unary(path, [b"x"])


# Limits.


@shows("no more calls at once than the server allows; the others wait", *REAL)
async def test_no_more_calls_than_the_server_allows(library: str) -> None:
    """Grpclib allows what h2 allows: 100. Half a second is enough for a busy machine to begin a hundred."""
    with running_peer(library, max_streams=100) as peer:
        async with channel_to(peer.port) as channel, trio.open_nursery() as nursery:
            await channel.unary("/test.Peer/Echo", [b"x"])
            for _ in range(150):
                nursery.start_soon(channel.unary, "/test.Peer/Sleep", [b"0.5"])
        async with channel_to(peer.port) as channel:
            assert await channel.unary("/test.Peer/Peak", [b""]) == b"100"


@shows("a request over the server's limit is RESOURCE_EXHAUSTED, the connection stays", "grpcio", "emulated")
async def test_a_question_over_the_server_s_limit(library: str) -> None:
    with running_peer(library, max_message=MIB) as peer:
        async with channel_to(peer.port) as channel:
            assert await channel.unary("/test.Peer/Length", [bytes(MIB)]) == b"%d" % MIB
            with pytest.raises(StatusError) as caught:
                await channel.unary("/test.Peer/Length", [bytes(MIB + 1)])
            assert caught.value.status is Status.RESOURCE_EXHAUSTED
            assert await channel.unary("/test.Peer/Echo", [b"x"]) == b"x"


@shows("16 messages of 4 MiB at once both ways, through small windows", *REAL)
async def test_many_large_messages_pass_small_windows(library: str) -> None:
    async def ask(channel: Channel, number: int) -> None:
        message = random.Random(number).randbytes(4 * MIB)
        assert await channel.unary("/test.Peer/Echo", [message]) == message

    with running_peer(library, window=70_000) as peer:
        async with channel_to(peer.port) as channel, trio.open_nursery() as nursery:
            for number in range(16):
                nursery.start_soon(ask, channel, number)


# The end of a connection.


@shows("a restarted server is found again; the call in flight fails as unreachable", *REAL)
async def test_a_restarted_server_is_found_again(library: str) -> None:
    """The call in flight fails, calls while nobody listens fail, later ones succeed on a new connection."""
    with reserve_ports(1) as (port,), ExitStack() as first:
        first.enter_context(running_peer(library, port=port))
        async with channel_to(port) as channel:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fails, channel, "/test.Peer/Hang")
                assert await channel.unary("/test.Peer/Echo", [b"1"]) == b"1"
                first.close()
            await fails(channel, "/test.Peer/Echo")
            with running_peer(library, port=port):
                assert await eventually(channel, b"2") == b"2"


async def eventually(channel: Channel, message: bytes) -> bytes:
    while True:
        with suppress(Unreachable):
            return await channel.unary("/test.Peer/Echo", [message])


@shows("GOAWAY: earlier calls end well, later ones go over a new connection", "grpcio")
async def test_a_connection_that_the_server_ends_by_age_loses_no_call(library: str) -> None:
    """Grpcio says GOAWAY twice: first that it will stop, then where it stopped."""
    with running_peer(library, age_ms=300) as peer:
        async with channel_to(peer.port) as channel, trio.open_nursery() as nursery:
            nursery.start_soon(channel.unary, "/test.Peer/Sleep", [b"1.5"])
            for number in range(300):
                assert await channel.unary("/test.Peer/Echo", [b"%d" % number]) == b"%d" % number
                await trio.sleep(0.004)


# Signs of life.


@shows("pings of the server are answered", "grpcio")
async def test_a_server_that_asks_for_signs_of_life_gets_them(library: str) -> None:
    """Grpcio asks no more often than once a second, and hangs up when it is not answered."""
    with running_peer(library, ping_ms=1000) as peer:
        async with channel_to(peer.port) as channel:
            assert await channel.unary("/test.Peer/Sleep", [b"2.5"]) == b"2.5"


@shows("the connection to a frozen server ends after a deadline", *REAL)
async def test_a_frozen_server_is_left(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "QUIET", 0.2)
    with running_peer(library) as peer:
        async with channel_to(peer.port) as channel:
            await channel.unary("/test.Peer/Echo", [b"x"])
            peer.process.send_signal(signal.SIGSTOP)
            monkeypatch.setattr(link, "PING_TIMEOUT", 0.3)  # a server that is only slow has had the usual one
            await fails(channel, "/test.Peer/Hang", "silent for 0.5 s")
            peer.process.send_signal(signal.SIGCONT)
            assert await eventually(channel, b"y") == b"y"


# A proxy in front of the Core. Its frames are written here byte by byte (RFC 9113, 6; RFC 7541, 6.2.2).

_PAGE = b"<html><h1>502 Bad Gateway</h1></html>"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _field(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


async def _answer_with_a_page(client: trio.SocketStream) -> None:
    """Say that all is well with the connection, and answer its first call with a page."""
    head = _field(b":status", b"502") + _field(b"content-type", b"text/html")
    await client.send_all(_frame(4, 0, 0, b""))
    received = b""
    while b"/test.Peer/Echo" not in received:
        received += await client.receive_some()
    await client.send_all(_frame(1, 4, 1, head) + _frame(0, 1, 1, _PAGE))
    await client.receive_some()


async def test_a_proxy_s_page_is_told_with_its_status_and_is_not_the_core_s_word() -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, _answer_with_a_page, 0, host="127.0.0.1"))
        async with channel_to(listener.socket.getsockname()[1]) as channel:
            with pytest.raises(StatusError) as caught:
                await channel.unary("/test.Peer/Echo", [b"x"])
        nursery.cancel_scope.cancel()
    assert (caught.value.status, caught.value.spoken) == (Status.UNAVAILABLE, False)
    assert caught.value.message.endswith(f"HTTP status 502 (text/html): {_PAGE.decode()}")


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the server's key and certificate."""
    folder = tmp_path_factory.mktemp("tls") / "core"
    make_certificate(folder)
    return folder


@pytest.fixture(scope="module")
def connector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the client's."""
    folder = tmp_path_factory.mktemp("tls") / "connector"
    make_certificate(folder)
    return folder


def pem(folder: Path, name: str = "certificate") -> Path:
    return folder / f"{name}.pem"


@shows("TLS with the configured authority, ALPN h2", *REAL)
async def test_calls_go_over_tls_with_the_configured_authority(library: str, core: Path) -> None:
    with running_peer(library, folder=str(core)) as peer:
        async with channel_to(peer.port, CoreTls(ca_file=pem(core))) as channel:
            message = bytes(3 * MIB)
            assert await channel.unary("/test.Peer/Echo", [message]) == message


@shows("a certificate of another authority is refused", *REAL)
async def test_a_certificate_of_another_authority_is_not_taken(library: str, core: Path) -> None:
    with running_peer(library, folder=str(core)) as peer:
        async with channel_to(peer.port, CoreTls()) as channel:
            with pytest.raises(Unreachable, match="certificate"):
                await channel.unary("/test.Peer/Echo", [b"x"])


@shows("a server that asks for a client's certificate gets it", *REAL)
async def test_a_client_s_certificate_opens_the_door(library: str, core: Path, connector: Path) -> None:
    tls = CoreTls(ca_file=pem(core), certificate_file=pem(connector), key_file=pem(connector, "key"))
    with running_peer(library, folder=str(core), authority=str(pem(connector))) as peer:
        async with channel_to(peer.port, tls) as channel:
            assert await channel.unary("/test.Peer/Echo", [b"x"]) == b"x"


@shows("without a client's certificate, or with an unknown one, the server is unreachable", *REAL)
async def test_without_a_client_s_certificate_the_door_stays_shut(
    library: str, core: Path, connector: Path
) -> None:
    strangers = CoreTls(ca_file=pem(core), certificate_file=pem(core), key_file=pem(core, "key"))
    with running_peer(library, folder=str(core), authority=str(pem(connector))) as peer:
        for tls in (CoreTls(ca_file=pem(core)), strangers):
            async with channel_to(peer.port, tls) as channel:
                with pytest.raises(Unreachable):
                    await channel.unary("/test.Peer/Echo", [b"x"])


@shows("a server that does not offer h2 by ALPN is unreachable, and the error says so", "grpclib", "emulated")
@pytest.mark.parametrize("protocols", [[], ["http/1.1"]])
async def test_a_server_without_h2_is_not_taken(library: str, core: Path, protocols: list[str]) -> None:
    with running_peer(library, folder=str(core), protocols=protocols) as peer:
        async with channel_to(peer.port, CoreTls(ca_file=pem(core))) as channel:
            with pytest.raises(Unreachable, match="HTTP/2"):
                await channel.unary("/test.Peer/Echo", [b"x"])
