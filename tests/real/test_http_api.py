"""The HTTP API over real sockets: what slow, endless, oversized, unauthenticated, malformed and very many clients get."""

from __future__ import annotations

import os
import resource
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from kmsconn.config.working import ServerTls
from kmsconn.serving import decryptions as http_api
from kmsconn.serving import exchange, reloading
from kmsconn.serving.decryptions import HttpApiService
from kmsconn.transport.ports import listen_at, offload_to_threads
from tests.real.grpc_scene import make_certificate
from tests.unit.serving.scene import KEY, FakeDecryptions, key, public_body, settings

PATH = "/v1/public-decrypt"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: kms\r\n".encode()
MANY = 2_000
GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


@asynccontextmanager
async def listening(
    decryptions: FakeDecryptions | None = None, **values: Any
) -> AsyncIterator[tuple[HttpApiService, int]]:
    """Serve on a free port while the block lasts; gives the service and the port."""
    service = HttpApiService(
        settings(**values), decryptions or FakeDecryptions(), offload_to_threads, lambda _: None, time.time
    )
    [listener] = await listen_at("127.0.0.1:0")
    port: int = listener.socket.getsockname()[1]
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run, [listener])
            yield service, port
            nursery.cancel_scope.cancel()


def client(port: int, scheme: str = "http", **options: Any) -> httpx2.AsyncClient:
    """Return a client of the server."""
    return httpx2.AsyncClient(trust_env=False, base_url=f"{scheme}://127.0.0.1:{port}", timeout=60, **options)


async def talk(port: int, *pieces: bytes, pause: float = 0) -> bytes:
    """Send pieces and return what comes until the server closes."""
    data = b""

    async def send() -> None:
        with suppress(*GONE):
            for piece in pieces:
                await stream.send_all(piece)
                await trio.sleep(pause)

    async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with suppress(*GONE):
            while piece := await stream.receive_some(65536):
                data += bytes(piece)
        nursery.cancel_scope.cancel()
    return data


async def test_a_client_posts_again_and_again_on_one_connection() -> None:
    async with (
        listening(keys=(key(),)) as (service, port),
        client(port, headers={"Authorization": f"Bearer {KEY}"}) as http,
    ):
        for number in range(1, 20):
            answer = await http.post(PATH, content=public_body(number))
            assert (answer.status_code, answer.json()["decryptedResult"]) == (200, "0x0102")
        assert service.statistics().connections == 1


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ((HEAD, *[b"X-Filler: " + b"x" * 1000 + b"\r\n"] * 100), b"431"),
        ((HEAD + b"Content-Length: 2000000\r\n\r\n", *[b" " * 65536] * 40), b"400"),
        (
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"10000\r\n" + b" " * 65536 + b"\r\n"] * 40),
            b"400",
        ),
    ],
    ids=["endless head", "oversized", "endless body"],
)
async def test_who_sends_what_is_no_request_is_told_so(pieces: tuple[bytes, ...], status: bytes) -> None:
    """With a body that still comes too: the answer is not lost in a reset."""
    async with listening() as (_, port):
        data = await talk(port, *pieces, b"GET /version HTTP/1.1\r\nHost: kms\r\nConnection: close\r\n\r\n")
    assert data.split(b" ", 2)[1] == status


async def test_who_floods_with_frames_of_http_2_is_refused_at_once() -> None:
    settings_frame, ping = (
        bytes.fromhex("000000040000000000"),
        bytes.fromhex("0000080600000000000000000000000000"),
    )
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings_frame
    async with listening(keys=(key(),)) as (service, port):
        started = trio.current_time()
        data = await talk(port, preface, *[ping * 1000] * 1000)
        assert data.startswith(b"HTTP/1.1 505 ")
        assert trio.current_time() - started < 5
        while service.statistics().connections:
            await trio.sleep(0.1)


async def test_a_request_behind_one_of_two_lengths_is_never_answered() -> None:
    """One reader would see its end after the first chunk, another one 44 bytes later (RFC 9112, 11.2)."""
    both = b"Content-Length: 44\r\nTransfer-Encoding: chunked\r\n"
    smuggled = b"0\r\n\r\nGET /version HTTP/1.1\r\nHost: kms\r\n\r\n"
    async with listening() as (_, port):
        data = await talk(port, HEAD + both + b"\r\n" + smuggled)
    assert data.startswith(b"HTTP/1.1 400 ")
    assert data.count(b"HTTP/1.1") == 1


async def test_who_wants_one_answer_gets_it_whatever_it_sends_behind() -> None:
    """Bytes that nobody has read would reset the connection, and the answer be lost."""
    async with listening() as (_, port):
        for _ in range(20):
            data = await talk(
                port, b"GET /version HTTP/1.1\r\nHost: kms\r\nConnection: close\r\n\r\n" + bytes(100_000)
            )
            assert data.endswith(b'{"version":"v1"}')


async def test_who_has_no_key_is_told_so_whatever_the_size_of_the_body() -> None:
    async with listening(keys=(key(),)) as (_, port), client(port) as http:
        for size in (0, 1000, 900_000):
            answer = await http.post(PATH, content=b" " * size)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_who_connects_by_the_thousand_holds_a_bounded_number_and_keeps_nobody_out() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * MANY), hard))
    try:
        async with (
            listening(max_in_flight_decryptions=100) as (service, port),
            trio.open_nursery() as nursery,
        ):
            for _ in range(MANY):
                nursery.start_soon(talk, port, HEAD)
                await trio.lowlevel.checkpoint()
            async with client(port) as http:
                for _ in range(20):
                    assert (await http.get("/version")).status_code == 200
                    assert service.statistics().connections <= service.statistics().connections_limit
            assert service.statistics().dropped > 0
            nursery.cancel_scope.cancel()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_client_that_reads_nothing_holds_no_answer_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_api, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(http_api, "IDLE_SECONDS", 1.0)
    many = b"GET /version HTTP/1.1\r\nHost: kms\r\n\r\n" * 1000
    async with listening() as (service, port), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        with suppress(*GONE), trio.fail_after(60):
            while True:
                await stream.send_all(many)
        with trio.fail_after(30):
            while service.statistics().connections:
                await trio.sleep(0.1)


async def test_closing_answers_who_waits_and_refuses_who_comes() -> None:
    async with listening(FakeDecryptions(seconds=2)) as (service, port), client(port) as http:
        async with trio.open_nursery() as nursery:
            answers: list[int] = []

            async def post() -> None:
                answers.append((await http.post(PATH, content=public_body())).status_code)

            nursery.start_soon(post)
            while not service.statistics().waiting:
                await trio.sleep(0.01)
            service.close()
            await trio.sleep(0.1)
            with pytest.raises(OSError, match=r"refused|failed"):
                await trio.open_tcp_stream("127.0.0.1", port)
        assert answers == [200]


async def test_tls_and_its_certificate_is_exchanged_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "RELOAD_SECONDS", 0.1)
    first, second = certificates(tmp_path / "a"), certificates(tmp_path / "b")
    tls = ServerTls(tmp_path / "cert.pem", tmp_path / "key.pem")
    install(first, tls)
    async with listening(tls=tls) as (_, port), client(port, "https", verify=trusting(first)) as http:
        assert (await http.get("/version")).json() == {"version": "v1"}
        assert not await takes(port, second)
        install(second, tls)
        while not await takes(port, second):
            await trio.sleep(0.05)
        assert (await http.get("/version")).status_code == 200  # on the connection from before


async def takes(port: int, pair: tuple[Path, Path]) -> bool:
    """Say whether a client that trusts one certificate is answered."""
    async with client(port, "https", verify=trusting(pair)) as http:
        with suppress(httpx2.HTTPError):
            return (await http.get("/version")).is_success
    return False


async def test_who_speaks_no_tls_is_closed_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "HANDSHAKE_SECONDS", 1.0)
    tls = ServerTls(*certificates(tmp_path / "tls"))
    async with listening(tls=tls) as (service, port):
        assert b"HTTP" not in await talk(port, b"GET /version HTTP/1.1\r\nHost: kms\r\n\r\n")
        assert await talk(port) == b""
        assert service.statistics().connections == 0


def certificates(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of this machine and return its file and that of its key."""
    make_certificate(folder)
    return folder / "certificate.pem", folder / "key.pem"


def install(pair: tuple[Path, Path], tls: ServerTls) -> None:
    """Put a certificate and a key in the place of those that are there, one after the other."""
    for source, target in zip(pair, (tls.cert_path, tls.key_path), strict=True):
        new = target.with_suffix(".new")
        new.write_bytes(source.read_bytes())
        os.replace(new, target)  # noqa: PTH105 - what mv does


def trusting(pair: tuple[Path, Path]) -> ssl.SSLContext:
    """Return the context of a client that trusts one certificate."""
    return ssl.create_default_context(cafile=str(pair[0]))
