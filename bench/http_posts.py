"""``python -m bench.http_posts``: decryptions posted over HTTP beside requests from the chain: answered, latency, CPU per request of each.

Emulated dependencies, relayers and a real ``kmsconn run`` are processes of their own on loopback. Everything is made before a round begins,
so that nothing but serving is left to the emulator. Three rounds: the chain alone, posts alone, both. ``--strangers N``: a fourth one, in
which N clients of every bad kind are held open beside both. CPU is that of the connector between the first request of a round and its
last answer. Judges nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from bench.connector import add_connector, recipe_of
from bench.figures import ANSWERED as CHAIN_ANSWERED
from bench.figures import VISIBLE, Moments, Spread, between, spread
from bench.offering import PERIOD, SETTLING, Pair, Usage, open_pair, usage
from bench.offering import between as samples_of
from bench.processes import running_module
from bench.relaying import GO
from kmsconn.emulator.network import reserve_ports

KEY = "a key of the benchmark"
PATIENCE = 30.0
"""Seconds after the last request in which everything open may still be answered."""
STRANGERS_SECONDS = 10.0
"""In which strangers connect before anything is offered."""
LOOK = 0.05
POSTS, TOLD = "posts.json", "strangers.json"

Post = tuple[float, float, str, int]
"""Of one post: sent, answered (Unix seconds), the code, repetitions."""


@attrs.frozen
class PostRound:
    """One round: rates per second of both sources, seconds, and strangers beside them."""

    name: str
    chain: float
    posts: float
    seconds: float
    strangers: int = 0


@attrs.frozen
class PostFigures:
    """What came of a round: moments of requests and posts, and what each side used."""

    round: PostRound
    rows: Sequence[Moments]
    offered: int
    posts: Sequence[Post]
    posted: int
    connector: Usage
    emulator: Usage
    peak: int
    """Bytes of memory, the most of the round."""
    strangers: str = ""
    """What the strangers got."""

    def line(self) -> str:
        """Return the row of a table."""
        answered = sum(row[CHAIN_ANSWERED] is not None for row in self.rows)
        done = [post for post in self.posts if post[2] == "ok"]
        chain, posts = (
            spread(between(self.rows, VISIBLE, CHAIN_ANSWERED)),
            spread(end - sent for sent, end, *_ in done),
        )
        cpu = 1000 * self.connector.cpu / max(1, answered + len(done))
        failed = Counter(post[2] for post in self.posts if post[2] != "ok")
        return (
            f"| {self.round.name} | {answered} of {self.offered} | {_times(chain)} | {len(done)} of {self.posted} | {_times(posts)} "
            f"| {sum(post[3] for post in self.posts)} | {cpu:.2f} | {self.connector.share:.0%} · {self.emulator.share:.0%} "
            f"| {self.peak / 2**20:.0f} | {self.strangers}{dict(failed) or ''} |"
        )


def _times(spread: Spread) -> str:
    return " · ".join("–" if one is None else f"{one:,.0f}" for one in (spread.p50, spread.p99, spread.most))


HEADER = (
    "| round | chain answered | p50 · p99 · most (ms) | posts answered | p50 · p99 · most (ms) | repeated | CPU ms each "
    "| busy, connector · emulator | memory (MiB) | others |\n|---|---|---|---|---|---|---|---|---|---|"
)


@attrs.frozen
class Target:
    """Where relayers and strangers find the connector, and a folder for what they read and write."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        """The address that is posted to."""
        return f"http://127.0.0.1:{self.port}"


async def measure(pair: Pair, one: PostRound, target: Target) -> PostFigures:
    """Play a round and return what came of it."""
    await _prepare(pair, one, target)
    await trio.sleep(SETTLING)
    first = len(pair.samples["connector"])
    async with _relayers(one, target) as relayers, _strangers(one, target), trio.open_nursery() as watching:
        watching.start_soon(pair.watch, PERIOD)
        chain, posts = await _offer_both(pair, one, relayers)
        await trio.sleep(2 * PERIOD)
        watching.cancel_scope.cancel()
    both = [*chain["rows"], *(post[:2] for post in posts["done"])]
    moments = [moment for row in both for moment in row if moment is not None]
    used = {name: usage(*samples_of(seen, min(moments), max(moments))) for name, seen in pair.samples.items()}
    return PostFigures(
        one,
        chain["rows"],
        chain["offered"],
        posts["done"],
        posts["posted"],
        used["connector"],
        used["emulator"],
        max(sample.resident for sample in pair.samples["connector"][first:]),
        _told(one, target),
    )


async def _offer_both(pair: Pair, one: PostRound, relayers: trio.Process | None) -> tuple[Any, Any]:
    """Offer requests of the chain, then let the relayers begin, and return what became of both."""
    chain: dict[str, Any] = {"rows": [], "offered": 0}
    posts: dict[str, Any] = {"done": [], "posted": 0}

    async def offer() -> None:
        load = {"rate": one.chain, "seconds": one.seconds, "prepared": True, "reply_timeout": PATIENCE}
        chain.update(await pair.dependencies.post("/load", load))

    async with trio.open_nursery() as nursery:
        if one.chain:
            before = await pair.dependencies.get("/status")
            nursery.start_soon(offer)
            while (await pair.dependencies.get("/status"))["emitted"] == before["emitted"]:  # noqa: ASYNC110
                await trio.sleep(LOOK)  # it was being made until now
        if relayers is not None:
            posts.update(await _post(relayers))
    return chain, posts


async def _prepare(pair: Pair, one: PostRound, target: Target) -> None:
    """Have the posts of a round made, and write them where the relayers read them."""
    posts = await pair.dependencies.post("/posts", {"count": round(one.posts * one.seconds)})
    (target.folder / POSTS).write_text(json.dumps(posts))


@asynccontextmanager
async def _relayers(one: PostRound, target: Target) -> AsyncIterator[trio.Process | None]:
    """Start the relayers, which read their posts and wait."""
    if not one.posts:
        yield None
        return
    arguments = (target.folder / POSTS, target.url, "--key", KEY, "--rate", one.posts, "--patience", PATIENCE)
    async with running_module("bench.relaying", *arguments) as process:
        assert process.stdout is not None
        await process.stdout.receive_some()  # that it is ready
        yield process


async def _post(relayers: trio.Process) -> Any:
    """Let the relayers post, and return what they say of it."""
    assert relayers.stdin is not None
    assert relayers.stdout is not None
    await relayers.stdin.send_all(f"{GO}\n".encode())
    return json.loads(b"".join([bytes(piece) async for piece in relayers.stdout]))


@asynccontextmanager
async def _strangers(one: PostRound, target: Target) -> AsyncIterator[None]:
    """Let strangers hold connections while the block lasts, most of them from its begin."""
    if not one.strangers:
        yield
        return
    arguments = (target.port, target.folder / TOLD, "--key", KEY, "--clients", one.strangers)
    async with running_module("bench.strangers", *arguments):
        await trio.sleep(STRANGERS_SECONDS)
        yield


def _told(one: PostRound, target: Target) -> str:
    return (target.folder / TOLD).read_text() if one.strangers else ""


@asynccontextmanager
async def _open(arguments: argparse.Namespace, folder: Path) -> AsyncIterator[tuple[Pair, Target]]:
    """Start the dependencies and a connector that serves over HTTP."""
    keys = folder / "api_keys.toml"
    keys.write_text(f'[[keys]]\nid = "bench"\nsha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"\n')
    recipe = recipe_of(arguments)
    size, computing = arguments.size, arguments.computing
    with reserve_ports(1) as (port,):
        served = f'http_endpoint = "127.0.0.1:{port}"\napi_keys_file = "{keys}"\n'
        async with open_pair(recipe, folder, size, computing, written=served) as pair:
            yield pair, Target(port, folder)


def rounds(arguments: argparse.Namespace) -> Iterator[PostRound]:
    """Yield what is measured."""
    chain, posts, seconds = arguments.chain, arguments.posts, arguments.seconds
    yield PostRound("chain", chain, 0, seconds)
    yield PostRound("posts", 0, posts, seconds)
    yield PostRound("both", chain, posts, seconds)
    if arguments.strangers:
        yield PostRound("strangers", chain, posts, seconds, arguments.strangers)


async def main(arguments: argparse.Namespace) -> None:
    """Measure the rounds and print a row for each."""
    print(HEADER)
    with tempfile.TemporaryDirectory() as name:
        async with _open(arguments, Path(name)) as (pair, target):
            for one in rounds(arguments):
                if not arguments.only or one.name in arguments.only:
                    print((await measure(pair, one, target)).line(), flush=True)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.http_posts", description=__doc__)
    add = parser.add_argument
    add("--chain", type=float, default=50.0, help="requests from the chain per second (50)")
    add("--posts", type=float, default=100.0, help="posts per second (100)")
    add("--seconds", type=float, default=60.0, help="seconds of each round (60)")
    add("--strangers", type=int, default=0, help="clients of every bad kind in a fourth round (0)")
    add(
        "--only",
        nargs="*",
        default=(),
        help="names of the rounds to run: chain, posts, both, strangers (all)",
    )
    add("--size", type=int, default=205, metavar="BYTES", help="of each ciphertext (205)")
    add_connector(parser, 0.01)
    return parser


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    trio.run(main, _arguments().parse_args())
