"""``python -m bench.attacks``: strangers at the monitoring port of a connector under load, and hostile buckets.

Shows the replies included, the wait of a probe, and the resident size. Strangers are processes of their own, buckets are faults of the
emulator, against a real ``kmsconn run`` on loopback, between seconds without them. Judges nothing.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Never

import attrs
import trio

from bench.connector import add_connector, recipe_of
from bench.figures import ANSWERED, Moments
from bench.offering import Pair, Plan, open_pair
from bench.proc import Sample
from bench.processes import running_module

METRICS = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
PROBE = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
ROW = METRICS * (747 * 1024 // len(METRICS))
ATTACK_TIMEOUT = 20.0
"""Seconds after which a probe that is not answered counts as that long."""
GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)

Connect = Callable[[], Awaitable[trio.SocketStream]]


async def hold(connect: Connect, data: bytes) -> Never:
    """Connect, send, read nothing, hold on; and again when dropped."""
    while True:
        with suppress(*GONE):
            async with await connect() as stream:
                await stream.send_all(data)
                await until_dropped(stream)
        await trio.sleep(0.01)


async def devour(connect: Connect) -> Never:
    """Send a long row of requests and read all answers; and again."""
    while True:
        with suppress(*GONE, BaseExceptionGroup):
            async with await connect() as stream, trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, ROW)
                while await stream.receive_some():
                    pass
                nursery.cancel_scope.cancel()
        await trio.sleep(0.01)


async def until_dropped(stream: trio.SocketStream) -> None:
    """Wait until sending fails; never reads."""
    while True:
        await trio.sleep(0.5)
        await stream.send_all(b"x")


async def hammer(connect: Connect) -> Never:
    """Ask for the metrics, take them, leave; as fast as it goes."""
    while True:
        with suppress(*GONE):
            async with await connect() as stream:
                await stream.send_all(METRICS)
                while await stream.receive_some():
                    pass
        await trio.lowlevel.checkpoint()


async def knock(connect: Connect) -> Never:
    """Connect and leave; as fast as it goes."""
    while True:
        with suppress(*GONE):
            async with await connect():
                pass
        await trio.lowlevel.checkpoint()


ATTACKS: Mapping[str, tuple[int, Callable[[Connect], Awaitable[Never]]]] = {
    "1,100 clients, unread": (1100, partial(hold, data=METRICS * 200)),
    "747 KiB of requests": (1, devour),
    "1,100 silent clients": (1100, partial(hold, data=b"")),
    "50 clients ask again and again": (50, hammer),
    "50 clients connect again and again": (50, knock),
}
"""By name: how many clients, and what each does."""

MIB = 1 << 20
BUDGET = 128 * MIB
"""Bytes of ciphertexts that the connector may hold."""
BUCKETS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "buckets without an end": ("/buckets/oversized", {}),
    "one bucket of two without an end": ("/bucket0/oversized", {}),
    "buckets that announce 60 MiB": ("/buckets/oversized", {"bytes": 60 * MIB, "announced": True}),
    "buckets of one-byte chunks": ("/buckets/chunked", {"bytes": 1}),
    "buckets that fall silent": ("/buckets/stall", {"after": 512}),
    "buckets that cut": ("/buckets/spoil", {"how": "truncated"}),
    "buckets with other bytes": ("/buckets/spoil", {"how": "wrong bytes"}),
}
"""By name: the fault of the emulator, and what it takes."""


async def attack(name: str, port: int) -> None:
    """Play one attack until killed."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    clients, client = ATTACKS[name]
    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(client, partial(trio.open_tcp_stream, "127.0.0.1", port))


@attrs.frozen
class Phase:
    """A span of time (Unix seconds) and what was seen in it: a probe's seconds, the connector's descriptors and bytes, at most."""

    name: str
    start: float
    end: float
    probes: Sequence[float]
    descriptors: int
    resident: int

    def line(self, rows: Iterable[Moments]) -> str:
        """Return it as a line, with the replies included in it."""
        moments = [moment for row in rows if (moment := row[ANSWERED]) is not None]
        included = sum(self.start <= moment < self.end for moment in moments)
        slowest, usual = max(self.probes), sorted(self.probes)[len(self.probes) // 2]
        return (
            f"{self.name:36} {included / (self.end - self.start):6.1f} included/s   /healthz {usual * 1000:7.1f} ms, "
            f"at most {slowest * 1000:7.1f} ms ({len(self.probes)} probes)   {self.descriptors:5} descriptors {self.resident / 1e6:5.0f} MB"
        )


async def probe(port: int) -> float:
    """Ask for the health on a new connection; return the seconds until it is whole."""
    begun = time.perf_counter()
    with trio.move_on_after(ATTACK_TIMEOUT), suppress(*GONE):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(PROBE)
            said = b"".join([bytes(await stream.receive_some()) for _ in range(1)])
            if said.startswith(b"HTTP/1.1 200"):
                return time.perf_counter() - begun
    return ATTACK_TIMEOUT


async def watch(pair: Pair, name: str, port: int, seconds: float) -> Phase:
    """Probe twice a second for a while."""
    start, probes, seen = time.time(), list[float](), list[Sample]()
    while time.time() < start + seconds:
        probes.append(await probe(port))
        pair.look()
        seen.append(pair.samples["connector"][-1])
        await trio.sleep(0.5)
    descriptors, resident = max(one.descriptors for one in seen), max(one.resident for one in seen)
    return Phase(name, start, time.time(), probes, descriptors, resident)


async def under_attack(pair: Pair, name: str, port: int, seconds: float) -> list[Phase]:
    """Watch without the attack, under it, and after it."""
    before = await watch(pair, "before", port, seconds)
    async with (
        hostile(pair, name)
        if name in BUCKETS
        else running_module("bench.attacks", "--play", name, "--port", port)
    ):
        during = await watch(pair, name, port, seconds)
    return [before, during, await watch(pair, "after", port, seconds)]


@asynccontextmanager
async def hostile(pair: Pair, name: str) -> AsyncIterator[None]:
    """Have the buckets hostile while the block lasts."""
    fault, body = BUCKETS[name]
    await pair.dependencies.post(fault, body)
    yield
    await pair.dependencies.delete("/faults")


async def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Play every attack against one connector under load, and print what was seen."""
    names = [name for name in (*ATTACKS, *BUCKETS) if arguments.only in name]
    written = f"ciphertext_budget = {BUDGET}\n"
    async with open_pair(recipe_of(arguments), folder, 1024, arguments.computing, written=written) as pair:
        endpoint = tomllib.loads(pair.dependencies.config.read_text(encoding="utf-8"))["monitoring_endpoint"]
        port = int(endpoint.rpartition(":")[2])
        for name in names:
            for line in await lines_of(pair, name, port, arguments):
                print(line, flush=True)


async def lines_of(pair: Pair, name: str, port: int, arguments: argparse.Namespace) -> list[str]:
    """Play one attack while requests are offered."""
    load = {"rate": arguments.rate, "seconds": 3 * arguments.seconds + 1, "reply_timeout": 3 * ATTACK_TIMEOUT}
    done: dict[str, Any] = {}
    phases: list[Phase] = []

    async def offer() -> None:
        done.update(await pair.dependencies.post("/load", load))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(offer)
        phases += await under_attack(pair, name, port, arguments.seconds)
    lost = done["offered"] - sum(1 for row in done["rows"] if row[ANSWERED] is not None)
    return [
        *(phase.line(done["rows"]) for phase in phases),
        f"{'':36} {lost} of {done['offered']} not answered",
    ]


def parser() -> argparse.ArgumentParser:
    """Return the arguments."""
    made = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__)
    add = made.add_argument
    add("--seconds", type=float, default=10.0, metavar="S", help="of each of the three phases (10)")
    add("--rate", type=float, default=50.0, metavar="R", help="requests per second (50)")
    add("--only", default="", metavar="TEXT", help="attacks with this in their name")
    add("--play", choices=ATTACKS, help=argparse.SUPPRESS)
    add("--port", type=int, help=argparse.SUPPRESS)
    add_connector(made, Plan().computing)
    return made


def main() -> None:
    """Play one attack, or measure all."""
    arguments = parser().parse_args()
    if arguments.play:
        trio.run(attack, arguments.play, arguments.port)
        return
    with tempfile.TemporaryDirectory(prefix="kmsconn-attacks-") as folder:
        trio.run(measure, arguments, Path(folder))


if __name__ == "__main__":
    main()
