"""``python -m bench.http_posts``: decryptions posted over HTTP beside requests from the chain: answered, latency, CPU per request of each.

Emulated dependencies with relayers and a real ``kmsconn run`` are processes of their own on loopback. Three rounds: the chain alone, posts
alone, both. ``--clients N``: a fourth round in which N clients that send a head by and by are held open beside both. Judges nothing.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import trio

from bench.proc import Sample, look
from bench.processes import running, tail

START_SECONDS = 60.0
GRACE = 60.0
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"POST /v1/public-decrypt HTTP/1.1\r\nHost: kms\r\n"
GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


@attrs.frozen
class PostRound:
    """One round: rates per second of both sources, seconds, and slow clients beside them."""

    name: str
    chain: float
    posts: float
    seconds: float
    clients: int = 0


@attrs.frozen
class PostFigures:
    """What came of a round; CPU in milliseconds for each request of both sources, memory in MiB."""

    round: PostRound
    summary: dict[str, Any]
    cpu: float
    memory: float
    held: int

    def line(self) -> str:
        """Return the row of a table."""
        chain, posts = self.summary, self.summary.get("posts", {})
        count = chain["answered"] + posts.get("answered", 0)
        return (
            f"| {self.round.name} | {chain['answered']} of {chain['emitted']} | {chain['p50_ms']} · {chain['p99_ms']} "
            f"| {posts.get('answered', 0)} of {posts.get('posted', 0)} | {posts.get('p50_ms')} · {posts.get('p99_ms')} "
            f"| {posts.get('repeated', 0)} | {self.cpu / max(1, count) * 1000:.1f} | {self.memory:.0f} | {self.held} |"
        )


HEADER = (
    "| round | chain answered | p50 · p99 (ms) | posts answered | p50 · p99 (ms) | repeated | CPU per request (ms) "
    "| memory (MiB) | clients held |\n|---|---|---|---|---|---|---|---|---|"
)


async def measure(one: PostRound, folder: Path) -> PostFigures:
    """Run a round and return what came of it. Raises RuntimeError with the end of a log where something did not start."""
    config, told, log = folder / "emu.toml", folder / "emulate.log", folder / "run.log"
    emulate = ["emulate", "--write-config", str(config), "--rate", str(one.chain), "--posts", str(one.posts)]
    emulate += ["--duration", str(one.seconds), "--json"]
    async with running(_kmsconn(*emulate), told, grace=GRACE) as emulator:
        await _wait_file(config, told)
        async with running(_kmsconn("run", "-c", str(config)), log, grace=GRACE) as connector:
            held, samples = Slow(), list[Sample]()
            await _wait_ready(_port(config, "monitoring_endpoint"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch, connector.pid, samples)
                if one.clients:
                    nursery.start_soon(held.hold, _port(config, "http_endpoint"), one.clients)
                await emulator.wait()
                nursery.cancel_scope.cancel()
    lines = [line for line in told.read_text().splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(tail(told) + tail(log))
    cpu, memory = samples[-1].cpu - samples[0].cpu, max(one.resident for one in samples) / (1 << 20)
    return PostFigures(one, json.loads(lines[-1]), cpu, memory, held.most)


def _kmsconn(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kmsconn", *arguments]


def _port(config: Path, option: str) -> int:
    address: str = tomllib.loads(config.read_text())[option]
    return int(address.rpartition(":")[2])


async def _wait_ready(port: int) -> None:
    """Wait until every dependency has answered the connector: what it took to start belongs to no request."""
    while True:
        with suppress(*GONE):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(HEALTH)
                if bytes(await stream.receive_some()).startswith(b"HTTP/1.1 200 "):
                    return
        await trio.sleep(0.1)


async def _wait_file(path: Path, log: Path) -> None:
    with trio.move_on_after(START_SECONDS):
        while not await trio.Path(path).exists():  # noqa: ASYNC110 - another process writes it
            await trio.sleep(0.1)
        return
    raise RuntimeError(tail(log))


async def _watch(pid: int, samples: list[Sample]) -> None:
    while True:
        with suppress(OSError):
            samples.append(look(pid))
        await trio.sleep(1)


@attrs.define
class Slow:
    """Clients that send the head of a request by and by, and connect again when they are closed."""

    open: int = 0
    most: int = 0

    async def hold(self, port: int, clients: int) -> None:
        """Hold clients open until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(clients):
                nursery.start_soon(self._hold_one, port)
                await trio.sleep(0.001)

    async def _hold_one(self, port: int) -> None:
        while True:
            with suppress(*GONE):
                async with self._counted(port) as stream:
                    await stream.send_all(HEAD)
                    while True:
                        await stream.send_all(b"X")
                        await trio.sleep(2)
            await trio.sleep(1)

    @asynccontextmanager
    async def _counted(self, port: int) -> AsyncIterator[trio.SocketStream]:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            self.open += 1
            self.most = max(self.most, self.open)
            try:
                yield stream
            finally:
                self.open -= 1


def rounds(arguments: argparse.Namespace) -> Iterator[PostRound]:
    """Yield what is measured."""
    chain, posts, seconds = arguments.chain, arguments.posts, arguments.seconds
    yield PostRound("chain", chain, 0, seconds)
    yield PostRound("posts", 0, posts, seconds)
    yield PostRound("both", chain, posts, seconds)
    if arguments.clients:
        yield PostRound(f"both, {arguments.clients} slow clients", chain, posts, seconds, arguments.clients)


async def main(arguments: argparse.Namespace) -> None:
    """Measure the rounds and print a row for each."""
    print(HEADER)
    for one in rounds(arguments):
        if arguments.only and one.name not in arguments.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            print((await measure(one, Path(folder))).line(), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chain", type=float, default=50.0, help="requests from the chain per second (50)")
    parser.add_argument("--posts", type=float, default=100.0, help="posts per second (100)")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of each round (60)")
    parser.add_argument("--clients", type=int, default=0, help="slow clients in a fourth round (0)")
    parser.add_argument("--only", nargs="*", default=(), help="names of the rounds to run (all)")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    trio.run(main, parser.parse_args())
