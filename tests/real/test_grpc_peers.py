"""The channel against two foreign gRPC servers, each in a process of its own on a loopback socket."""

from __future__ import annotations

import datetime as dt
import ipaddress
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpclib.const import Status

from kmsconn.config.settings import CoreTls
from kmsconn.errors import StartRefused, Unreachable
from kmsconn.kms.channel import Channel, open_channel
from kmsconn.kms.status import StatusError
from kmsconn.kms.tls import client_context
from kmsconn.net.dialling import dial_sockets
from kmsconn.net.offloading import offload_to_threads
from kmsconn.net.ports import Ports

SCRIPT = Path(__file__).with_name("grpc_peer_process.py")
PORTS = Ports(dial=dial_sockets, offload=offload_to_threads, wall=time.time, random=random.random)
MIB = 1024 * 1024
WEEK = dt.timedelta(days=7)
LIMIT = 20  # seconds; a hang fails instead of blocking the suite


@contextmanager
def peer_process(library: str, port: int = 0, folder: str = "") -> Iterator[int]:
    """Run a server and give its port."""
    command = [sys.executable, str(SCRIPT), library, str(port), folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture(scope="module", params=["grpcio", "grpclib"])
def library(request: pytest.FixtureRequest) -> str:
    """Return the server's library; indirect parameters choose among them."""
    return str(request.param)


@pytest.fixture(scope="module")
def peer(library: str) -> Iterator[int]:
    with peer_process(library) as port:
        yield port


@asynccontextmanager
async def channel_to(port: int) -> AsyncIterator[Channel]:
    with trio.fail_after(LIMIT):
        async with open_channel("127.0.0.1", port, PORTS) as channel:
            yield channel


@pytest.mark.parametrize("size", [0, 1, 300, 16_379, 16_384, 65_530, 65_535, MIB, 20 * MIB])
async def test_a_message_arrives_whole_both_ways(peer: int, size: int) -> None:
    message = random.Random(size).randbytes(size)
    async with channel_to(peer) as channel:
        assert await channel.unary("/test.Peer/Echo", [message]) == message


async def test_a_message_in_many_pieces_arrives_in_order(peer: int) -> None:
    pieces = [b"head", b"", b"x" * (3 * MIB), b"mid", b"y" * 100_000, *(b"%d" % n for n in range(1000))]
    async with channel_to(peer) as channel:
        assert await channel.unary("/test.Peer/Echo", pieces) == b"".join(pieces)


async def test_a_large_reply_to_a_small_question_arrives(peer: int) -> None:
    async with channel_to(peer) as channel:
        assert await channel.unary("/test.Peer/Make", [b"%d" % (20 * MIB)]) == bytes(range(256)) * (
            20 * MIB // 256
        )


async def test_a_large_question_gets_a_small_reply(peer: int) -> None:
    async with channel_to(peer) as channel:
        assert await channel.unary("/test.Peer/Length", [bytes(20 * MIB)]) == b"%d" % (20 * MIB)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
async def test_every_status_comes_with_its_text(peer: int, status: Status) -> None:
    text = "100 % übel – „Zeile\n2“"
    async with channel_to(peer) as channel:
        with pytest.raises(StatusError) as caught:
            await channel.unary("/test.Peer/Fail", [f"{status.value}:{text}".encode()])
    assert (caught.value.status, caught.value.message, caught.value.spoken) == (status, text, True)


async def test_an_unknown_method_is_unimplemented(peer: int) -> None:
    async with channel_to(peer) as channel:
        with pytest.raises(StatusError) as caught:
            await channel.unary("/test.Peer/Nothing", [b"x"])
    assert caught.value.status is Status.UNIMPLEMENTED


async def test_an_unknown_method_answers_although_the_question_is_large(peer: int) -> None:
    async with channel_to(peer) as channel:
        with pytest.raises(StatusError) as caught:
            await channel.unary("/test.Peer/Nothing", [bytes(20 * MIB)])
        assert caught.value.status is Status.UNIMPLEMENTED
        assert await channel.unary("/test.Peer/Echo", [b"still here"]) == b"still here"


async def _cancelled_at_least(channel: Channel, count: int) -> None:
    while int(await channel.unary("/test.Peer/Cancelled", [b""])) < count:  # noqa: ASYNC110 - another process
        await trio.sleep(0.01)


async def test_the_deadline_of_the_scope_ends_the_call_here_and_at_the_server(peer: int) -> None:
    async with channel_to(peer) as channel:
        before = int(await channel.unary("/test.Peer/Cancelled", [b""]))
        with trio.move_on_after(0.2), suppress(StatusError):
            await channel.unary("/test.Peer/Hang", [b"x"])
        await _cancelled_at_least(channel, before + 1)


async def test_a_cancelled_call_is_cancelled_at_the_server_and_the_channel_goes_on(peer: int) -> None:
    async with channel_to(peer) as channel:
        before = int(await channel.unary("/test.Peer/Cancelled", [b""]))
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(channel.unary, "/test.Peer/Hang", [b"x"])
            await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
        await _cancelled_at_least(channel, before + 5)


@pytest.mark.parametrize("library", ["grpcio"], indirect=True, scope="module")
async def test_300_cancelled_uploads_leave_the_windows_as_they_were(library: str, peer: int) -> None:
    """Not with grpclib, whose server loses the window of streams that are reset before their handler ran (its issue 217)."""
    async with channel_to(peer) as channel:
        for number in range(300):
            async with (
                trio.open_nursery() as nursery
            ):  # cancelled without a deadline, which the server would know
                nursery.start_soon(channel.unary, "/test.Peer/Echo", [bytes(200_000)])
                await trio.sleep(0.0003 * (number % 10))
                nursery.cancel_scope.cancel()
        assert len(await channel.unary("/test.Peer/Echo", [bytes(5 * MIB)])) == 5 * MIB


async def test_50_concurrent_calls_get_their_own_replies(peer: int) -> None:
    async def ask(number: int) -> None:
        message = random.Random(number).randbytes(number * 10_000)
        assert await channel.unary("/test.Peer/Echo", [message]) == message

    async with channel_to(peer) as channel, trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(ask, number)


async def test_a_restarted_server_is_found_again(library: str) -> None:
    """The call in flight fails, calls while nobody listens fail, later ones succeed on a new connection."""
    with ExitStack() as first:
        port = first.enter_context(peer_process(library))
        async with channel_to(port) as channel:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_fails, channel, "/test.Peer/Hang")
                assert await channel.unary("/test.Peer/Echo", [b"1"]) == b"1"
                first.close()
            await _fails(channel, "/test.Peer/Echo")
            with peer_process(library, port):
                assert await _eventually(channel, b"2") == b"2"


async def _fails(channel: Channel, path: str) -> None:
    with pytest.raises(Unreachable):
        await channel.unary(path, [b"x"])


async def _eventually(channel: Channel, message: bytes) -> bytes:
    while True:
        with suppress(Unreachable):
            return await channel.unary("/test.Peer/Echo", [message])


# TLS.


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a key and a certificate of its own authority for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "core")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + WEEK)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*form))
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return folder


async def test_calls_go_over_tls_with_the_configured_authority(certificates: Path) -> None:
    context = client_context(CoreTls(ca_file=certificates / "certificate.pem"))
    with peer_process("grpcio", folder=str(certificates)) as port, trio.fail_after(LIMIT):
        async with open_channel("127.0.0.1", port, PORTS, context) as channel:
            message = bytes(3 * MIB)
            assert await channel.unary("/test.Peer/Echo", [message]) == message


async def test_a_certificate_of_another_authority_is_not_taken(certificates: Path) -> None:
    with peer_process("grpcio", folder=str(certificates)) as port, trio.fail_after(LIMIT):
        async with open_channel("127.0.0.1", port, PORTS, client_context(CoreTls())) as channel:
            with pytest.raises(Unreachable, match="certificate"):
                await channel.unary("/test.Peer/Echo", [b"x"])


def test_tls_files_that_are_not_there_refuse_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="core_tls"):
        client_context(CoreTls(ca_file=tmp_path / "none.pem"))
