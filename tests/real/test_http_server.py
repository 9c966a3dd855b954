"""Our HTTP client against Python's own server on real sockets: lengths, chunks, ends, and connections that the server closes."""

from __future__ import annotations

import random
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from kmsconn.errors import StartRefused
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.server import Identity, make_app, open_server
from kmsconn.transport.dialling import sockets
from kmsconn.transport.http import HttpClient, open_http
from kmsconn.transport.ports import Ports, offload_to_threads
from tests.real.test_chain_sockets import certificates

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


async def test_cancelling_the_block_closes_the_port() -> None:
    with trio.fail_after(20):
        with trio.CancelScope() as scope:
            async with open_server(APP, "127.0.0.1:0"):
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
