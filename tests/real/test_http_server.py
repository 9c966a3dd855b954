"""Our HTTP client against Python's own server, and RPC, buckets and AWS through a real proxy that alone resolves names."""

from __future__ import annotations

import random
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import trio

from kmsconn.chain.endpoint import open_endpoint
from kmsconn.ciphertexts.places import BucketPolicy, ObjectPlace
from kmsconn.ciphertexts.sdk import open_sdk
from kmsconn.config.description import AwsKmsKey
from kmsconn.config.parties import Chain
from kmsconn.emulator.aws_kms import EmulatedAwsKms
from kmsconn.emulator.http import HttpRequest, HttpResponse, serve_http
from kmsconn.errors import StartRefused
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.events import ignore
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.server import Identity, make_app, open_server
from kmsconn.replies.wallet import open_aws_kms
from kmsconn.transport.dialling import Way, dial_sockets, sockets
from kmsconn.transport.http import HttpClient, open_http
from kmsconn.transport.ports import Ports, offload_to_threads, start_tls
from kmsconn.transport.proxies import Proxies, proxies_of
from tests.real.connect_proxy import ConnectProxy, open_proxy
from tests.real.stores import open_moto
from tests.real.test_aws_kms_sockets import serving
from tests.real.test_chain_sockets import certificates, listening
from tests.unit.chain.scripted_node import CHAIN_ID, Node

BODY = random.Random(1).randbytes(1_000_000)


class Handler(BaseHTTPRequestHandler):
    """Answers by path; counts connections."""

    protocol_version = "HTTP/1.1"
    connections = 0

    def setup(self) -> None:
        Handler.connections += 1
        super().setup()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(200)
        chunked = self.path == "/chunked"
        if self.path != "/end":
            self.send_header(
                *(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(BODY))))
            )
        if self.path in {"/end", "/close"}:
            self.close_connection = True
        if self.path == "/close":
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "GET":
            self._send_chunks() if chunked else self.wfile.write(BODY)
        if self.path == "/once":  # without a word: the client finds out by itself
            self.close_connection = True

    def _send_chunks(self) -> None:
        for start in range(0, len(BODY), 77_777):
            chunk = BODY[start : start + 77_777]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.path == "/once"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def secure(server: HTTPServer, directory: Path) -> ssl.SSLContext:
    """Let a server speak TLS; return a client's context that trusts it."""
    theirs, ours = certificates(directory)
    server.socket = theirs.wrap_socket(server.socket, server_side=True)
    return ours


class Server(ThreadingHTTPServer):
    """Counts the connections that it has closed."""

    closed = 0
    daemon_threads = True

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.closed += 1


@asynccontextmanager
async def open_world(directory: Path | None = None) -> AsyncIterator[tuple[HttpClient, str, Server]]:
    """Yield a client, the URL of a server, and that server; with TLS where there is a directory for its certificate."""
    Handler.connections = 0
    with Server(("127.0.0.1", 0), Handler) as server, trio.fail_after(30):
        dial = sockets(ssl_context=secure(server, directory) if directory else None)
        ports = Ports(dial=dial, offload=offload_to_threads, wall=time.time, random=random.random)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, server.serve_forever, 0.01)
            try:
                async with open_http(ports) as client:
                    yield (
                        client,
                        f"{'https' if directory else 'http'}://127.0.0.1:{server.server_port}",
                        server,
                    )
            finally:
                with trio.CancelScope(shield=True):  # the thread ends in no other way
                    await trio.to_thread.run_sync(server.shutdown)


@pytest.mark.parametrize(
    ("path", "connections"), [("/length", 1), ("/chunked", 1), ("/end", 3), ("/close", 3), ("/once", 3)]
)
async def test_a_body_comes_whole_in_every_framing(path: str, connections: int) -> None:
    async with open_world() as (client, url, _):
        for _ in range(3):
            async with await client.stream_get(url + path, max_bytes=len(BODY)) as download:
                assert await download.read() == BODY
    assert Handler.connections == connections


@pytest.mark.parametrize("tls", [False, True])
async def test_heads_and_posts_share_one_connection(tls: bool, tmp_path: Path) -> None:
    async with open_world(tmp_path if tls else None) as (client, url, _):
        for _ in range(3):
            assert (await client.head(url)).headers["content-length"] == str(len(BODY))
            assert (await client.post(url, BODY)).body == BODY
    assert Handler.connections == 1


async def test_a_connection_that_the_server_closed_carries_no_post() -> None:
    """A post is not asked twice, so the end must be seen before."""
    async with open_world() as (client, url, server):
        for count in range(1, 4):
            assert (await client.post(f"{url}/once", b"x")).body == b"x"
            while server.closed < count:
                await trio.sleep(0.01)
    assert Handler.connections == 3


APP = make_app(Monitor(), Identity("kmsconn", "0.1.0"))


async def test_it_answers_on_a_free_port_while_the_block_lasts() -> None:
    with trio.fail_after(20):
        async with open_server(APP, "127.0.0.1:0") as url, httpx2.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{url}/liveness")).json()["status"] == "alive"
            assert (await client.get(f"{url}/healthz")).status_code == 503
            head = await client.head(f"{url}/version")
            assert (head.status_code, head.content) == (200, b"")
        host, _, port = url.removeprefix("http://").rpartition(":")
        with pytest.raises(OSError, match=r".*"):
            await trio.open_tcp_stream(host, int(port))


async def test_a_taken_address_is_refused_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartRefused, match=address):
            async with open_server(APP, address):
                pass


CREDENTIALS = {"Basic dXNlcjpodW50ZXIy"}


@pytest.fixture(autouse=True)
async def _limit() -> AsyncIterator[None]:
    with trio.fail_after(60):
        yield


@pytest.fixture
async def proxy() -> AsyncIterator[ConnectProxy]:
    async with open_proxy() as found:
        yield found


def proxies(proxy: ConnectProxy) -> Proxies:
    return proxies_of({"HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url})


def ports(proxy: ConnectProxy, context: ssl.SSLContext | None = None) -> Ports:
    return Ports(
        dial_sockets,
        offload_to_threads,
        time.time,
        random.random,
        partial(start_tls, context=context),
        proxies(proxy),
    )


@pytest.mark.parametrize("scheme", ["ws", "http", "wss", "https"])
async def test_rpc_goes_through_the_proxy(scheme: str, proxy: ConnectProxy, tmp_path: Path) -> None:
    server, client = certificates(tmp_path, "node.example")
    tls = scheme in {"wss", "https"}
    websocket = scheme in {"ws", "wss"}
    async with listening(Node(), websocket=websocket, context=server if tls else None) as port:
        url, there = f"{scheme}://node.example:{port}/", ports(proxy, client)
        async with (
            open_http(there) as http,
            open_endpoint(Chain(CHAIN_ID, (url,)), "gateway", there, http) as endpoint,
        ):
            assert await endpoint.call("echo", 1) == 1
    tunnel = f"CONNECT node.example:{port} HTTP/1.1"
    assert set(proxy.lines) == {f"POST {url} HTTP/1.1" if scheme == "http" else tunnel}
    assert proxy.credentials == CREDENTIALS


async def _no_object(_: HttpRequest) -> HttpResponse:
    await trio.lowlevel.checkpoint()
    return HttpResponse(404)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_buckets_go_through_the_proxy(scheme: str, proxy: ConnectProxy, tmp_path: Path) -> None:
    server, client = certificates(tmp_path, "bucket.example")
    policy = BucketPolicy(allow_http=True)
    there = ports(proxy, client)
    way = Way(there, sockets(allow=policy.allows_address))
    bucket: Any = SimpleNamespace(serve=lambda stream, _: serve_http(stream, _no_object))
    async with listening(bucket, websocket=False, context=server if scheme == "https" else None) as port:
        url = f"{scheme}://bucket.example:{port}/ct"
        async with open_http(there, way=way, judge=policy.check) as http:
            assert (await http.head(url)).status == 404
    line = f"HEAD {url} HTTP/1.1" if scheme == "http" else f"CONNECT bucket.example:{port} HTTP/1.1"
    assert proxy.lines == [line]


async def test_of_several_addresses_an_allowed_one_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(host: str, port: int, **_: object) -> list[object]:
        await trio.lowlevel.checkpoint()
        return [(0, 0, 0, "", (address, port)) for address in ("10.0.0.1", "127.0.0.1")]

    async with listening(Node(), websocket=False) as port:
        monkeypatch.setattr(trio.socket, "getaddrinfo", both)
        dial = sockets(allow=lambda address: address == "127.0.0.1")
        monkeypatch.setattr(trio, "open_tcp_stream", _literal)
        stream = await dial("bucket.example", port)
        await trio.aclose_forcefully(stream)


async def _literal(host: str, port: int) -> trio.SocketStream:
    socket = trio.socket.socket()
    await socket.connect((host, port))
    return trio.SocketStream(socket)


async def test_aws_kms_goes_through_the_proxy(proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter3")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # the SDK's own reading would end here
    key = PrivateKey(bytes(31) + b"\x07")
    async with serving(EmulatedAwsKms({"key": key})) as url:
        named = url.replace("127.0.0.1", "kms.example")
        async with open_aws_kms(AwsKmsKey("key", "us-east-1", named), ignore, proxies(proxy)) as signer:
            assert signer.address == key.address
    assert proxy.lines
    assert all(line.startswith(f"POST {named}/") for line in proxy.lines)
    assert proxy.credentials == CREDENTIALS


async def test_without_a_proxy_of_ours_the_sdk_uses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedding program passes its own environment, and that of the process counts for nobody."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter3")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    key = PrivateKey(bytes(31) + b"\x07")
    async with (
        serving(EmulatedAwsKms({"key": key})) as url,
        open_aws_kms(AwsKmsKey("key", "us-east-1", url), ignore) as signer,
    ):
        assert signer.address == key.address


async def test_an_object_with_credentials_goes_through_the_proxy(
    proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.real.stores import ACCESS_KEY, SECRET_KEY, connect

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    with open_moto() as port:
        store = connect(port)
        store.create_bucket(Bucket="ciphertexts")
        store.put_object(Bucket="ciphertexts", Key="key", Body=b"bytes")
        place = ObjectPlace("us-east-1", f"http://s3.us-east-1.amazonaws.com:{port}", "ciphertexts")
        async with open_sdk(offload_to_threads, proxies(proxy)) as sdk, sdk.get(place, "key", 100) as body:
            assert b"".join([piece async for piece in body]) == b"bytes"
    assert proxy.lines == [f"GET http://s3.us-east-1.amazonaws.com:{port}/ciphertexts/key HTTP/1.1"]
