"""CPU microseconds per unary call of the gRPC channel against a grpcio server in another process.

``python -m bench.grpc_calls``.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import trio

from bench.rows import Row, show
from kmsconn.kms.channel import Channel, open_channel
from kmsconn.net.dialling import dial_sockets
from kmsconn.net.offloading import offload_to_threads
from kmsconn.net.ports import Ports

PEER = Path(__file__).parent.parent / "tests" / "real" / "grpc_peer_process.py"
CASES = [
    ("Echo", 300, 1, 1000),
    ("Echo", 300, 32, 4000),
    ("Length", 1_000_000, 8, 200),
    ("Length", 10_000_000, 4, 20),
]


async def measure(channel: Channel, method: str, size: int, width: int, calls: int) -> Row:
    async def caller(count: int) -> None:
        for _ in range(count):
            await channel.unary(f"/test.Peer/{method}", [bytes(size)])

    await caller(10)
    cpu, wall = time.process_time(), time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(width):
            nursery.start_soon(caller, calls // width)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Row(f"gRPC {method}, {size} B, {width} at once", "kmsconn", cpu / calls * 1e6, calls / wall)


async def main(port: int) -> list[Row]:
    ports = Ports(dial=dial_sockets, offload=offload_to_threads, wall=time.time, random=random.random)
    async with open_channel("127.0.0.1", port, ports) as channel:
        return [await measure(channel, *case) for case in CASES]


def rows() -> list[Row]:
    """Measure every case."""
    command = [sys.executable, str(PEER), "grpcio"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        try:
            return trio.run(main, int(process.stdout.readline()))
        finally:
            process.kill()


if __name__ == "__main__":
    show(rows())
