"""``python -m bench.monitoring_servers``: the monitoring address on our h11 server and on hypercorn with starlette, side by side.

Import time, resident memory, descriptors, CPU of a scrape, and the slowest probe under each attack of ``bench.attacks``. hypercorn and
starlette are no dependencies: install them beside the project to measure (``pip install hypercorn starlette``). Judges nothing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import trio

from bench.attacks import ATTACKS, GONE, PROBE
from kmsconn.config.settings import MonitoringSettings
from kmsconn.monitoring.exchange import LiveAnswer, ProbeAnswer, ProbeRequest
from kmsconn.monitoring.monitor import Monitor
from kmsconn.monitoring.server import Identity, make_app, open_server
from kmsconn.monitoring.serving import Page
from kmsconn.monitoring.status_site import make_status_site

SCRAPES = 2000
TIMEOUT = 10.0
ATTACK_START = 30.0
"""Seconds for an attack to begin, at most."""
IMPORTS = {
    "ours": "kmsconn.monitoring.server",
    "hypercorn": "hypercorn.trio, starlette.applications, starlette.responses, starlette.routing, kmsconn.monitoring.monitor",
}


def page_of(address: str) -> Page:
    """Return what both servers answer: a connector that has not started."""
    monitor, settings = Monitor(), MonitoringSettings(monitoring_endpoint=address)
    site = make_status_site(monitor, settings, "0")
    return make_app(monitor, Identity("kmsconn", "0"), time.monotonic, site)


async def serve_ours(port: int) -> None:
    """Serve by our own server until killed."""
    async with open_server(page_of(f"127.0.0.1:{port}"), f"127.0.0.1:{port}"):
        await trio.sleep_forever()


async def serve_hypercorn(port: int) -> None:
    """Serve the same by hypercorn and starlette."""
    applications, responses, routing = (
        importlib.import_module(f"starlette.{name}") for name in ("applications", "responses", "routing")
    )
    page = page_of(f"127.0.0.1:{port}")

    async def answer(request: Any) -> Any:
        found = page(ProbeRequest(request.url.path, request.method, request.headers.get("host", "")))
        if isinstance(found, LiveAnswer):
            return responses.StreamingResponse(pieces(found), media_type=found.content_type)
        assert isinstance(found, ProbeAnswer)
        return responses.Response(found.body, found.status, dict(found.headers), found.content_type)

    async def pieces(answer: LiveAnswer) -> Any:  # noqa: ASYNC900 - Starlette streams what a generator yields, and closes it
        try:
            while True:
                yield await answer.next_piece()
        finally:
            answer.close()

    app = applications.Starlette(routes=[routing.Route("/{path:path}", answer)])
    config = importlib.import_module("hypercorn.config").Config()
    config.bind, config.backlog, config.keep_alive_timeout, config.read_timeout = (
        [f"127.0.0.1:{port}"], 1024, 5, 5,
    )  # fmt: skip
    await importlib.import_module("hypercorn.trio").serve(app, config)


SERVERS: dict[str, Callable[[int], Awaitable[None]]] = {"ours": serve_ours, "hypercorn": serve_hypercorn}


def import_seconds(modules: str) -> float:
    """Return the seconds of a process that imports modules and nothing else, the least of five."""
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)  # noqa: S603
        times.append(time.perf_counter() - begun)
    return min(times)


def modules_of(modules: str) -> int:
    """Return how many modules that imports."""
    code = f"import sys, {modules}; print(len(sys.modules))"
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)  # noqa: S603


@contextmanager
def started(name: str) -> Iterator[tuple[int, int]]:
    """Give pid and port of a server."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
    command = [sys.executable, "-m", "bench.monitoring_servers", "--serve", name, "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        wait_until_it_listens(port)
        yield process.pid, port
    finally:
        process.kill()
        process.wait()


def wait_until_it_listens(port: int) -> None:
    """Return once the port takes connections."""
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)


def wait_until_busy(pid: int, before: float) -> None:
    """Return once an attack has begun: its process takes seconds to start."""
    end = time.time() + ATTACK_START
    while cpu_of(pid) - before < 0.05 and time.time() < end:
        time.sleep(0.1)


def scrape(port: int, request: bytes = PROBE) -> float:
    """Ask once on a new connection; return the seconds until the answer is whole."""
    begun = time.perf_counter()
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as stream:
        stream.sendall(request.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        said = b""
        while piece := stream.recv(65536):
            said += piece
        if said.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503")):
            return time.perf_counter() - begun
    return TIMEOUT


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that a process took."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_of(pid: int) -> float:
    """Return the MiB that a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def descriptors_of(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def calm(name: str) -> str:
    """Measure a server that nobody attacks."""
    with started(name) as (pid, port):
        scrape(port)
        memory, before = resident_of(pid), cpu_of(pid)
        times = sorted(scrape(port) for _ in range(SCRAPES))
        each = (cpu_of(pid) - before) / SCRAPES
        return (
            f"{name:10} import {import_seconds(IMPORTS[name]):.2f} s, {modules_of(IMPORTS[name])} modules; {memory:.0f} MiB; "
            f"{each * 1e6:.0f} µs CPU a probe, median {times[SCRAPES // 2] * 1e3:.1f} ms"
        )


def attacked(name: str, attack: str, seconds: float) -> str:
    """Measure a server under one attack."""
    with started(name) as (pid, port):
        command = [sys.executable, "-m", "bench.attacks", "--play", attack, "--port", str(port)]
        attacker, before = subprocess.Popen(command), cpu_of(pid)  # noqa: S603
        wait_until_busy(pid, before)
        before = cpu_of(pid)
        end, probes, descriptors, memory = time.time() + seconds, list[float](), 0, 0.0
        while time.time() < end:
            probes.append(scrape(port))
            descriptors, memory = max(descriptors, descriptors_of(pid)), max(memory, resident_of(pid))
            time.sleep(0.2)
        attacker.kill()
        attacker.wait()
        slowest, usual = max(probes), sorted(probes)[len(probes) // 2]
        return (
            f"{name:10} {attack:36} probe {usual * 1e3:7.1f} ms, at most {slowest * 1e3:7.1f} ms; {descriptors:5} descriptors, "
            f"{memory:4.0f} MiB, {cpu_of(pid) - before:.1f} s CPU in {seconds:g} s"
        )


def main() -> None:
    """Serve, or measure both."""
    parser = argparse.ArgumentParser(prog="python -m bench.monitoring_servers", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="of each attack (5)")
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        with suppress(*GONE):
            trio.run(partial(SERVERS[arguments.serve], arguments.port))
        return
    for name in SERVERS:
        print(calm(name), flush=True)
    for attack in ATTACKS:
        for name in SERVERS:
            print(attacked(name, attack, arguments.seconds), flush=True)


if __name__ == "__main__":
    main()
