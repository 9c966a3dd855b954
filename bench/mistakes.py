"""``python -m bench.mistakes``: mistakes of an operator, and how long ``kmsconn run`` takes to log a line that names the cause.

Each mistake is made against emulated dependencies on loopback, with requests coming in; the time counts from the start of the process,
its import included, and so does the status of one that ends then. ``kmsconn doctor`` is run on the same mistake, and its time is told too.
Judges nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from subprocess import PIPE, STDOUT
from typing import Any, Final

import attrs
import h2.config
import h2.connection
import h2.events
import trio

from kmsconn.config.networks import NETWORKS
from kmsconn.config.parties import Chain, Contract
from kmsconn.emulator.config_file import write_config
from kmsconn.emulator.core_keys import SigningNode
from kmsconn.emulator.dependencies import GATEWAY_ID, key_for
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies, Traffic
from kmsconn.emulator.http import serve_http
from kmsconn.emulator.network import serve_sockets
from kmsconn.ethereum.addresses import parse_address

RATE: Final = 2.0  # requests per second
LONGEST: Final = 90.0  # seconds that are waited for a line
ENDING: Final = 5.0  # seconds in which a start that is refused ends after it
HOUR: Final = 3600.0


@attrs.define(eq=False)
class Scene:
    """What a mistake is made in; ``changes`` are settings of the connector, ``before`` what its command begins with."""

    dependencies: FhevmDependencies
    folder: Path
    nursery: trio.Nursery
    changes: dict[str, Any] = attrs.field(factory=dict)
    before: tuple[str, ...] = ()


@attrs.frozen
class Mistake:
    """A mistake: its name, how it is made, what a line must say that names its cause, and how far the chains' clocks are off."""

    name: str
    make: Callable[[Scene], Any]
    cause: str
    clock: float = 0.0


@attrs.frozen
class Outcome:
    """Seconds from the start to the line, and the line; None where none came. Likewise of the doctor.

    ``status``: that of the process that ended soon after the line; None for one that runs on.
    """

    mistake: str
    seconds: float | None
    line: str
    status: int | None
    doctor_seconds: float | None
    doctor_line: str


# --- the mistakes


async def wrong_chain(scene: Scene) -> None:
    """Configure another chain id than the gateway's."""
    urls = scene.dependencies.settings(scene.folder / "journal.db").chains.gateway.urls
    scene.changes["gateway"] = Chain(GATEWAY_ID + 1, urls)


async def http_for_wss(scene: Scene) -> None:
    """Name with wss an address that speaks http."""
    node = scene.dependencies.clusters["gateway"].nodes[0]
    port = await scene.nursery.start(partial(serve_sockets, partial(serve_http, handler=node.http)))
    scene.changes["gateway"] = Chain(GATEWAY_ID, (f"wss://127.0.0.1:{port}",))


async def other_network(scene: Scene) -> None:
    """Configure the Decryption of testnet."""
    scene.changes["decryption_contract"] = Contract(
        parse_address(NETWORKS["testnet"].decryption), "Decryption"
    )


def wrong_domain(option: str) -> Callable[[Scene], Any]:
    """Configure another version of a contract's EIP-712 domain."""

    async def make(scene: Scene) -> None:
        protocol = scene.dependencies.settings(scene.folder / "journal.db").protocol
        scene.changes[option] = attrs.evolve(getattr(protocol, option), domain_version="2")

    return make


async def proxy_page(scene: Scene) -> None:
    """Name a proxy that has no Core behind it, and answers with a page."""
    port = await scene.nursery.start(partial(serve_sockets, _answer_with_a_page))
    scene.changes["core_endpoints"] = (f"http://127.0.0.1:{port}",)


async def _answer_with_a_page(stream: trio.abc.Stream) -> None:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    await stream.send_all(connection.data_to_send())
    while data := await stream.receive_some():
        for event in connection.receive_data(bytes(data)):
            if isinstance(event, h2.events.StreamEnded):
                connection.send_headers(event.stream_id, [(":status", "502"), ("content-type", "text/html")])
                connection.send_data(event.stream_id, b"<h1>Bad Gateway</h1>", end_stream=True)
        await stream.send_all(connection.data_to_send())


async def no_funds(scene: Scene) -> None:
    """Leave the account empty."""
    for chain in scene.dependencies.chains:
        chain.evm.set_balance(scene.dependencies.sender.address, 0)


async def core_down(scene: Scene) -> None:
    """Name a port on which no Core listens."""
    scene.changes["core_endpoints"] = ("http://127.0.0.1:9",)


async def other_signer(scene: Scene) -> None:
    """Name the Core of another node."""
    scene.dependencies.cores[0].core.node = SigningNode(key_for("another signer"))


async def private_bucket(scene: Scene) -> None:
    """Have buckets at private addresses, and do not allow them."""
    scene.changes["allow_private_buckets"] = False


async def wrong_clock(scene: Scene) -> None:
    """Do nothing: the chains' clocks are off already, as seen from this machine."""
    del scene


async def read_only_disk(scene: Scene) -> None:
    """Have the journal on a file system that is mounted read-only, in a mount namespace of its own."""
    disk = scene.folder / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o ro none {disk} && exec "$@"'
    scene.before = ("unshare", "-m", "sh", "-c", mount, "sh")
    scene.changes["journal"] = disk / "journal.db"


async def port_taken(scene: Scene) -> None:
    """Let another program listen at the monitoring address."""
    port = await scene.nursery.start(partial(serve_sockets, _listen))
    scene.changes["monitoring_endpoint"] = f"127.0.0.1:{port}"


async def _listen(stream: trio.abc.Stream) -> None:
    await stream.receive_some(1)


MISTAKES: Final = (
    Mistake("wrong chain id", wrong_chain, r"is on chain \d+, configured is"),
    Mistake("wss that is http", http_for_wss, r"wss://.*(TLS|SSL|no websocket)"),
    Mistake("another network's contract", other_network, r"there is no Decryption at"),
    *(
        Mistake(f"wrong domain in {option}", wrong_domain(option), rf"{option}\.domain_version: is '2'")
        for option in ("decryption_contract", "kms_generation_contract", "protocol_config_contract")
    ),
    Mistake("a proxy's page for a Core", proxy_page, r"HTTP status 502.*Bad Gateway"),
    Mistake("no funds", no_funds, r"has 0 ether"),
    Mistake("Core down", core_down, r"core\[0\].*127.0.0.1:9\b"),
    Mistake("Core with another signer", other_signer, r"signed by|signature"),
    Mistake("private bucket", private_bucket, r"allow_private_buckets"),
    Mistake("clock off an hour", wrong_clock, r"clock of this machine", clock=-HOUR),
    Mistake("read-only disk", read_only_disk, r"Read-only|read-only"),
    Mistake("port taken", port_taken, r"monitoring_endpoint .* cannot be listened to"),
)


# --- the measurement


@asynccontextmanager
async def scene_of(mistake: Mistake) -> AsyncIterator[Scene]:
    """Give emulated dependencies under a small load, in which a mistake was made."""
    dependencies = FhevmDependencies.make(lambda: time.time() + mistake.clock)
    traffic = Traffic(dependencies, Random(0))
    with tempfile.TemporaryDirectory() as name:
        async with trio.open_nursery() as nursery:
            await nursery.start(dependencies.serve_on_sockets)
            nursery.start_soon(_ask, traffic)
            scene = Scene(dependencies, Path(name), nursery)
            await mistake.make(scene)
            yield scene
            nursery.cancel_scope.cancel()


async def _ask(traffic: Traffic) -> None:
    while True:
        traffic.any()
        await trio.sleep(1 / RATE)


async def measure(mistake: Mistake) -> Outcome:
    """Make a mistake, start the connector and wait for the line; then ask the doctor."""
    async with scene_of(mistake) as scene:
        path = scene.folder / "kmsconn.toml"
        changes = {"monitoring_endpoint": "127.0.0.1:0", **scene.changes}
        write_config(path, scene.dependencies.settings(scene.folder / "journal.db").but(**changes))
        await trio.sleep(1)
        seconds, line, status = await first_line(scene, mistake, path)
        doctor_seconds, found = await doctor_line(scene, path)
    return Outcome(mistake.name, seconds, line, status, doctor_seconds, found)


async def first_line(scene: Scene, mistake: Mistake, path: Path) -> tuple[float | None, str, int | None]:
    """Return when ``kmsconn run`` has said the cause, the words, and with which status it ends, if it does."""
    started, kept = time.perf_counter(), b""
    process = await trio.lowlevel.open_process(command(scene, "run", path), stdout=PIPE, stderr=STDOUT)
    assert process.stdout is not None
    try:
        with trio.move_on_after(LONGEST):
            async for chunk in process.stdout:
                *lines, kept = (kept + chunk).split(b"\n")
                for line in map(bytes.decode, lines):
                    if names(mistake, line):
                        took = time.perf_counter() - started
                        with trio.move_on_after(ENDING):
                            await process.wait()
                        return took, words_of(line), process.returncode
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
    return None, "", None


def command(scene: Scene, name: str, path: Path, *more: str) -> list[str]:
    """Return the command line of a command of ours."""
    return [*scene.before, sys.executable, "-m", "kmsconn", name, "-c", str(path), *more]


def names(mistake: Mistake, line: str) -> bool:
    """Say whether a line names the cause; the settings that are logged at the start do not count."""
    return bool(re.search(mistake.cause, line)) and '"event":"setting"' not in line


def words_of(line: str) -> str:
    """Return what a line says, of a line in JSON its texts."""
    try:
        said = json.loads(line)
    except ValueError:
        return line
    return "; ".join(
        str(said[name])
        for name in ("event", "dependency", "text", "message", "reason", "remedy")
        if name in said
    )


async def doctor_line(scene: Scene, path: Path) -> tuple[float | None, str]:
    """Return how long ``kmsconn doctor --ask-core`` took, and its lines that are neither well nor skipped."""
    started = time.perf_counter()
    result = await trio.run_process(
        command(scene, "doctor", path, "--json", "--ask-core"), capture_stdout=True, check=False
    )
    took = time.perf_counter() - started
    found = json.loads(result.stdout)["checks"]
    wrong = [one for one in found if one["status"] in {"fault", "warning"}]
    return took, " | ".join(f"{one['checked']}: {one['found']} → {one['remedy']}" for one in wrong)


def shown(outcomes: list[Outcome]) -> Iterator[str]:
    """Yield the outcomes as a table."""
    yield "| mistake | `kmsconn run` names it after | status | its words | `kmsconn doctor` takes | its words |"
    yield "|---|---|---|---|---|---|"
    for one in outcomes:
        status = "runs on" if one.status is None else one.status
        run = f"{one.mistake} | {_seconds(one.seconds)} | {status} | {one.line}"
        yield f"| {run} | {_seconds(one.doctor_seconds)} | {one.doctor_line} |"


def _seconds(value: float | None) -> str:
    return f"not in {LONGEST:g} s" if value is None else f"{value:.1f} s"


async def _all(wanted: list[str]) -> list[Outcome]:
    return [await measure(one) for one in MISTAKES if not wanted or one.name in wanted]


def main() -> None:
    """Measure all mistakes, or those that are named, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.mistakes", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="MISTAKE", help="some of them (all)")
    for line in shown(trio.run(_all, parser.parse_args().names)):
        print(line)


if __name__ == "__main__":
    main()
