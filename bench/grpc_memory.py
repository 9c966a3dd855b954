"""Resident memory of our process while 16 messages of 100 MiB are on their way, to a server and back.

``python bench/grpc_memory.py`` prints a line for each direction; ``rows()`` returns them. The server, another process,
counts what comes and throws it away, and makes what it sends of one piece; our question is one piece many times too.
A row: peak of resident memory above what it was before, and how much of that is payload that we must hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import trio

ROOT = Path(__file__).parent.parent
MIB = 1024 * 1024
WINDOW = 4 * MIB
Stream = trio.abc.Stream


class Server:
    """An h2 server that never holds a message: ``/up`` is counted, ``/down`` is made of one piece."""

    def __init__(self, stream: Stream, size: int) -> None:
        self._stream, self._size = stream, size
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None)
        )
        initial = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW}
        self._h2.local_settings = h2.settings.Settings(client=False, initial_values=initial)
        self._paths: dict[int, bytes] = {}
        self._unsent: dict[int, int] = {}
        self._piece = bytes(64 * 1024)

    async def run(self) -> None:
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW)
        await self._stream.send_all(self._h2.data_to_send())
        async for data in self._stream:
            for event in self._h2.receive_data(bytes(data)):
                self._take(event)
            await self._send()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self._paths[event.stream_id] = bytes(dict(event.headers)[b":path"])
            case h2.events.DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                size = self._size if self._paths[event.stream_id] == b"/down" else 0
                self._h2.send_headers(event.stream_id, [(":status", "200")])
                self._h2.send_data(event.stream_id, b"\0" + size.to_bytes(4))
                self._unsent[event.stream_id] = size
            case _:
                pass

    async def _send(self) -> None:
        for stream in list(self._unsent):
            while self._unsent.get(stream) and (room := self._room(stream)):
                self._h2.send_data(stream, self._piece[:room])
                self._unsent[stream] -= room
                await self._stream.send_all(self._h2.data_to_send())
            if not self._unsent[stream]:
                del self._unsent[stream]
                self._h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        if data := self._h2.data_to_send():
            await self._stream.send_all(data)

    def _room(self, stream: int) -> int:
        return min(
            self._h2.local_flow_control_window(stream),
            self._h2.max_outbound_frame_size,
            self._unsent[stream],
            len(self._piece),
        )


async def serve(size: int) -> None:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        print(listeners[0].socket.getsockname()[1], flush=True)

        async def answer(stream: trio.SocketStream) -> None:
            await Server(stream, size).run()

        nursery.start_soon(trio.serve_listeners, answer, listeners)


def resident() -> int:
    """Return the bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def watch(peak: list[int]) -> None:
    while True:
        peak[0] = max(peak[0], resident())
        await trio.sleep(0.005)


async def call(port: int, direction: str, size: int, count: int, budget: int) -> dict[str, Any]:
    """Make the calls at once and return the row."""
    from kmsconn.transport.dialling import dial_sockets
    from kmsconn.transport.grpc.channel import open_channel
    from kmsconn.transport.grpc.frames import Allowance
    from kmsconn.transport.ports import Ports, offload_to_threads

    ports = Ports(dial=dial_sockets, offload=offload_to_threads, wall=time.time, random=random.random)
    piece = bytes(MIB)
    question = [piece] * (size // MIB) if direction == "up" else [b"?"]
    async with open_channel("127.0.0.1", port, ports.dial, allowance=Allowance(budget)) as channel:

        async def ask() -> None:
            reply = await channel.unary(f"/{direction}", question)
            assert len(reply) == (size if direction == "down" else 0)

        await channel.unary("/up", [b"warm"])
        before, cpu = resident(), time.process_time()
        peak = [before]
        async with trio.open_nursery() as watching:
            watching.start_soon(watch, peak)
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(ask)
            watching.cancel_scope.cancel()
    payload = min(size * count, max(budget, size)) if direction == "down" else 0
    return {
        "direction": direction,
        "messages": count,
        "mib": size // MIB,
        "budget_mib": budget // MIB,
        "peak_mib": round((peak[0] - before) / MIB, 1),
        "payload_mib": payload // MIB,
        "cpu_s": round(time.process_time() - cpu, 2),
    }


def run(direction: str, size: int, count: int, budget: int) -> dict[str, Any]:
    """Measure one direction in a process of its own, against a server in another."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = [sys.executable, __file__, "--size", str(size), "--count", str(count), "--budget", str(budget)]
    with subprocess.Popen([*start, "--serve"], stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        assert server.stdout is not None
        try:
            port = server.stdout.readline().strip()
            client = [*start, "--call", direction, "--port", port]
            done = subprocess.run(client, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
        finally:
            server.kill()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows(size: int = 100 * MIB, count: int = 16, budget: int = 512 * MIB) -> list[dict[str, Any]]:
    """Return a row for each direction."""
    return [run(direction, size, count, budget) for direction in ("up", "down")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=100 * MIB, help="bytes of a message (100 MiB)")
    parser.add_argument("--count", type=int, default=16, help="messages at once (16)")
    parser.add_argument("--budget", type=int, default=512 * MIB, help="bytes of replies at once (512 MiB)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--call", choices=("up", "down"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        trio.run(serve, chosen.size)
    elif chosen.call:
        arguments = (chosen.port, chosen.call, chosen.size, chosen.count, chosen.budget)
        print(json.dumps(trio.run(call, *arguments)))
    else:
        for row in rows(chosen.size, chosen.count, chosen.budget):
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
