"""CPU microseconds per GET and HEAD of a bucket's object, against the emulated bucket in another process.

``python -m bench.http_gets``. Beside the client stands a bare exchange: the same request sent on one stream and the answer received,
with nothing read from it. PlannedQueries of both alternate, the best of each counts.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from bench.rows import Row, beside, run_module
from kmsconn.emulator.http import HttpRequest, HttpResponse, serve_http
from kmsconn.emulator.network import serve_sockets
from kmsconn.transport.dialling import dial_sockets
from kmsconn.transport.http import HttpClient, open_http
from kmsconn.transport.ports import Ports, offload_to_threads

HEADERS = tuple((f"x-amz-meta-thing-{number}", "v" * 60) for number in range(6))
CASES = [("HEAD", 0), ("GET", 205), ("GET", 64 * 1024), ("GET", 1024 * 1024), ("POST", 300)]
ROUNDS, CALLS = 5, 200


async def serve() -> None:
    async def answer(request: HttpRequest) -> HttpResponse:
        await trio.lowlevel.checkpoint()
        return HttpResponse(200, HEADERS, bytes(int(request.path[1:])))

    async with trio.open_nursery() as nursery:
        print(await nursery.start(serve_sockets, partial(serve_http, handler=answer)), flush=True)


async def by_client(client: HttpClient, method: str, url: str) -> None:
    if method == "HEAD":
        await client.head(url)
    elif method == "POST":
        await client.post(url, bytes(300))
    else:
        async with await client.stream_get(url, max_bytes=1 << 24) as download:
            await download.read()


async def bare(stream: trio.abc.Stream, method: str, size: int) -> None:
    body = bytes(300) if method == "POST" else b""
    head = f"{method} /{size} HTTP/1.1\r\nHost: bare\r\nContent-Length: {len(body)}\r\n\r\n"
    await stream.send_all(head.encode() + body)
    received = await stream.receive_some(65536)
    end = received.index(b"\r\n\r\n") + 4
    left = end + (0 if method == "HEAD" else size) - len(received)
    while left > 0:
        left -= len(await stream.receive_some(65536))


async def cpu_of(call: Callable[[], Awaitable[None]]) -> float:
    begun = time.process_time()
    for _ in range(CALLS):
        await call()
    return (time.process_time() - begun) / CALLS * 1e6


async def main(port: int) -> list[Row]:
    found: list[Row] = []
    ports = Ports(dial=dial_sockets, offload=offload_to_threads, wall=time.time, random=random.random)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with open_http(ports) as client, stream:
        for method, size in CASES:
            ways = [
                partial(by_client, client, method, f"http://127.0.0.1:{port}/{size}"),
                partial(bare, stream, method, size),
            ]
            rounds = [[await cpu_of(way) for way in ways] for _ in range(ROUNDS)]
            ours, floor = (min(each[way] for each in rounds) for way in (0, 1))
            name = f"HTTP {method}, {size} B"
            found += [Row(name, "kmsconn", ours), Row(name, "bare exchange", floor)]
    return found


def rows() -> list[Row]:
    """Measure every case."""
    return beside("bench.http_gets", main)


if __name__ == "__main__":
    run_module(serve, rows)
