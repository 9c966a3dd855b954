"""CPU of one unary gRPC call: our channel beside grpclib on asyncio and grpc.aio, against a grpcio server in another process.

``python -m bench.grpc_calls`` prints a row for each client and size; ``rows()`` returns them. Every client runs in a
process of its own, in rounds of calls that are echoed; a row is the round with the least CPU. ``--checkout FOLDER`` runs
ours from another checkout too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import table
from bench.rows import Row, show

ROOT = Path(__file__).parent.parent
PEER = ROOT / "tests" / "real" / "grpc_peer_process.py"
KIB, MIB = 1024, 1024 * 1024
CASES = {300: (32, 3200), 64 * KIB: (8, 400), MIB: (4, 40), 16 * MIB: (2, 4)}
"""Size of question and answer: calls at once, calls of a round."""
ROUNDS = 5
ECHO = "/test.Peer/Echo"

Ask = Callable[[bytes], Awaitable[Any]]
Together = Callable[[list[Callable[[], Awaitable[None]]]], Awaitable[None]]


async def measure(ask: Ask, together: Together) -> list[dict[str, Any]]:
    """Return a row for each size."""
    made = []
    for size, (width, calls) in CASES.items():
        message = random.Random(size).randbytes(size)

        async def caller(message: bytes = message, count: int = calls // width) -> None:
            for _ in range(count):
                await ask(message)

        rounds = [await one_round(caller, width, together) for _ in range(ROUNDS)]
        cpu, wall = min(rounds)
        name = f"gRPC echo, {table.size(size)}, {width} at once"
        made.append({"name": name, "cpu_us": cpu / calls * 1e6, "per_second": calls / wall})
    return made


async def one_round(
    caller: Callable[[], Awaitable[None]], width: int, together: Together
) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    await together([caller] * width)
    return time.process_time() - cpu, time.perf_counter() - wall


async def ours(port: int) -> list[dict[str, Any]]:
    import trio

    from kmsconn.transport.dialling import dial_sockets
    from kmsconn.transport.grpc.channel import open_channel
    from kmsconn.transport.ports import Ports, offload_to_threads

    async def together(callers: list[Callable[[], Awaitable[None]]]) -> None:
        async with trio.open_nursery() as nursery:
            for caller in callers:
                nursery.start_soon(caller)

    ports = Ports(dial=dial_sockets, offload=offload_to_threads, wall=time.time, random=random.random)
    async with open_channel("127.0.0.1", port, ports.dial) as channel:
        return await measure(lambda message: channel.unary(ECHO, [message]), together)


async def gathered(callers: list[Callable[[], Awaitable[None]]]) -> None:
    await asyncio.gather(*(caller() for caller in callers))


async def grpclib(port: int) -> list[dict[str, Any]]:
    from grpclib.client import Channel, UnaryUnaryMethod
    from grpclib.encoding.base import CodecBase

    class Raw(CodecBase):
        __content_subtype__ = "proto"

        def encode(self, message: Any, _: Any) -> bytes:
            return bytes(message)

        def decode(self, data: bytes, _: Any) -> bytes:
            return data

    async with Channel("127.0.0.1", port, codec=Raw()) as channel:
        return await measure(UnaryUnaryMethod(channel, ECHO, bytes, bytes), gathered)


async def grpc_aio(port: int) -> list[dict[str, Any]]:
    import grpc.aio

    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", limits) as channel:
        return await measure(channel.unary_unary(ECHO), gathered)


@contextmanager
def server() -> Iterator[int]:
    """Run the server and give its port."""
    command = [sys.executable, str(PEER), "grpcio"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def run_client(client: str, port: int, by: str, checkout: Path = ROOT) -> list[Row]:
    """Measure one client in a process of its own."""
    # That checkout's kmsconn, this one's bench.
    path = os.pathsep.join([str(checkout), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    command = [sys.executable, __file__, "--client", client, "--port", str(port)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return [Row(by=by, **row) for row in json.loads(done.stdout)]


def rows(checkout: Path | None = None) -> list[Row]:
    """Return every case; ``checkout`` adds rows of ours from there."""
    names = {"ours": "kmsconn", "grpclib": "grpclib", "grpc.aio": "grpc.aio"}
    with server() as port:
        made = [row for client, by in names.items() for row in run_client(client, port, by)]
        if checkout is not None:
            made += run_client("ours", port, "kmsconn, other checkout", checkout)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--client", choices=("ours", "grpclib", "grpc.aio"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--checkout", type=Path, help="another checkout of kmsconn, to compare")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    chosen = parser.parse_args()
    if chosen.client == "ours":
        import trio

        print(json.dumps(trio.run(ours, chosen.port)))
    elif chosen.client:
        client = {"grpclib": grpclib, "grpc.aio": grpc_aio}[chosen.client]
        print(json.dumps(asyncio.run(client(chosen.port))))
    else:
        show(rows(chosen.checkout))


if __name__ == "__main__":
    main()
