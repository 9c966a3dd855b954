"""``python -m bench.ports``: CPU of a probe and of a post over HTTP; ``bench.attacks`` shows them under attack. Judges nothing.

One process serves both ports: the monitoring port of a connector that has not started, and decryptions that are answered at once. CPU is
that of this process, each figure the median of some rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import trio

from bench.attacks import PROBE
from bench.proc import look
from kmsconn import __version__
from kmsconn.config.settings import MonitoringSettings
from kmsconn.config.working import ApiKey, HttpApi, ServerTls
from kmsconn.model.http_answers import HttpResult
from kmsconn.model.requests import Content
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.server import Identity, make_app, make_status_site, open_server
from kmsconn.serving.decryptions import HttpApiService
from kmsconn.transport.ports import listen_at, offload_to_threads

CHAIN, KEY = 12345, "a key of the benchmark"
HANDLE = "0x" + (b"\1" * 22 + CHAIN.to_bytes(8) + b"\5\0").hex()
BODY = json.dumps({"ctHandles": [HANDLE], "extraData": "0x00"}).encode()
POST = b"POST /v1/public-decrypt HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n%%s\r\n%s"
KEPT = POST % (KEY.encode(), len(BODY), BODY) % b""
LAST = POST % (KEY.encode(), len(BODY), BODY) % b"Connection: close\r\n"
PATIENCE = 10.0


class Answering:
    """Decrypts at once."""

    async def decrypt(self, content: Content) -> HttpResult:
        """Return an answer of the usual size."""
        await trio.lowlevel.checkpoint()
        fields = {"decryptedResult": bytes(32), "signature": bytes(65), "extraData": b"\0"}
        return HttpResult(content.id, fields)


async def serve(folder: Path, monitoring: int, plain: int, secured: int) -> None:
    """Serve until killed."""
    key = ApiKey("bench", hashlib.sha256(KEY.encode()).digest())
    tls = ServerTls(folder / "certificate.pem", folder / "key.pem")
    monitor, address = Monitor(), f"127.0.0.1:{monitoring}"
    site = make_status_site(monitor, MonitoringSettings(monitoring_endpoint=address), __version__)
    app = make_app(monitor, Identity("kmsconn", __version__), time.monotonic, site)
    async with open_server(app, address), trio.open_nursery() as nursery:
        for port, files in ((plain, None), (secured, tls)):
            settings = HttpApi(f"127.0.0.1:{port}", frozenset({CHAIN}), keys=(key,), tls=files)
            service = HttpApiService(settings, Answering(), offload_to_threads, lambda _: None, time.time)
            nursery.start_soon(service.run, await listen_at(settings.endpoint))


def connect(port: int, context: ssl.SSLContext | None = None) -> socket.socket:
    """Return a connection."""
    stream = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream if context is None else context.wrap_socket(stream)


def ask(stream: socket.socket, request: bytes) -> bytes:
    """Send a request and return its answer, which has its length."""
    stream.sendall(request)
    said = b""
    while True:
        head, end, body = said.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            return said
        if not (piece := stream.recv(65536)):
            raise ConnectionError(said)
        said += piece


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that a process took."""
    return look([pid])[0].cpu


@contextmanager
def started(module: str = "bench.ports") -> Iterator[tuple[int, tuple[int, ...]]]:
    """Give pid and ports of a server: monitoring, decryptions without and with TLS."""
    with tempfile.TemporaryDirectory() as folder:
        kind = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=127.0.0.1"
        files = ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/certificate.pem"]
        subprocess.run([*kind.split(), *files], check=True, capture_output=True)  # noqa: S603 - our own arguments
        held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        ports = tuple(one.getsockname()[1] for one in held)
        for one in held:
            one.close()
        process = subprocess.Popen([sys.executable, "-m", module, "--serve", folder, *map(str, ports)])  # noqa: S603
        try:
            for port in ports:
                wait_until_it_listens(port)
            yield process.pid, ports
        finally:
            process.kill()
            process.wait()


def wait_until_it_listens(port: int) -> None:
    """Return once the port takes connections."""
    for _ in range(round(PATIENCE / 0.05)):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)


def cpu_figures(pid: int, ports: tuple[int, ...], times: int, rounds: int) -> Iterator[str]:
    """Yield the CPU of each kind of request."""
    monitoring, plain, secured = ports
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE

    def kept(port: int, context: ssl.SSLContext | None = None) -> Callable[[], object]:
        return partial(ask, connect(port, context), KEPT)

    def anew(port: int, request: bytes, context: ssl.SSLContext | None = None) -> None:
        with connect(port, context) as stream:
            assert ask(stream, request)[9:12] in {b"200", b"503"}

    kinds: dict[str, Callable[[], Callable[[], object]]] = {
        "probe, new connection": lambda: partial(anew, monitoring, PROBE),
        "post, kept connection": lambda: kept(plain),
        "post, new connection": lambda: partial(anew, plain, LAST),
        "post, kept connection, TLS": lambda: kept(secured, trusting),
        "post, new connection, TLS": lambda: partial(anew, secured, LAST, trusting),
    }
    for name, begin in kinds.items():
        request, figures = begin(), list[float]()
        for _ in range(rounds):
            before = cpu_of(pid)
            for _ in range(times):
                request()
                time.sleep(0.006 if "new" in name else 0)  # below the pace of accepting
            figures.append((cpu_of(pid) - before) / times * 1e6)
        yield f"{name:36} {statistics.median(figures):6.0f} µs ({min(figures):.0f} to {max(figures):.0f})"


def main() -> None:
    """Serve, or measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.ports", description=__doc__)
    parser.add_argument("--times", type=int, default=500, help="requests of each kind in a round (500)")
    parser.add_argument("--rounds", type=int, default=3, help="of each kind (3)")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        folder, monitoring, plain, secured = arguments.serve
        trio.run(serve, Path(folder), int(monitoring), int(plain), int(secured))
        return
    with started() as (pid, ports):
        for line in cpu_figures(pid, ports, arguments.times, arguments.rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
