"""``kmsconn demo``: a connector among emulated dependencies in one process, for the eye. Opens no port and leaves nothing behind.

A terminal shows the connector as ``kmsconn top`` does; elsewhere each request that ends is a line.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import trio
from rich.console import Console

from kmsconn import __version__
from kmsconn.connector.connector import serve
from kmsconn.emulator.commands.arguments import (
    add_kinds,
    add_profile,
    at_least,
    milliseconds,
    positive,
    tell_end,
    wants_keys,
)
from kmsconn.emulator.emulation import CommitteePlan, Emulation, EmulationPlan
from kmsconn.emulator.load import Load
from kmsconn.model.events import Event, OnEvent, ReplyIncluded, RequestClosed
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.status import status_of
from kmsconn.operate.commands.checking import watch
from kmsconn.operate.commands.command import CliCommand, until_interrupted
from kmsconn.operate.commands.top_view import short_id, whole
from kmsconn.transport.ports import Offload, Ports, offload_to_threads

_REQUESTS, _BESIDE_KEYS = 40, 300
COMPUTING: Final = (0.02, 0.12)
"""Seconds that the emulated Core takes for an answer, drawn between these."""
_FRAME: Final = 0.25  # seconds between two looks: as long as a block of the Gateway


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add = parser.add_argument
    add_profile(parser)
    add_kinds(parser)
    add("--requests", metavar="N", type=at_least(1), help="how many requests (40; 300 with --kinds all)")
    add("--rate", metavar="R", type=positive, default=10.0, help="requests per second (10)")
    add("--seed", metavar="N", type=int, default=0, help="the same seed makes the same requests (0)")
    add("--json", action="store_true", help="print one JSON object and nothing else")


def execute(arguments: argparse.Namespace) -> int:
    """Run the demonstration to its end, or until a signal."""
    with tempfile.TemporaryDirectory(prefix="kmsconn-demo-") as folder:
        emulation = Emulation.of(plan_of(arguments, Path(folder) / "kmsconn.toml"), time.time)
        monitor, console = Monitor(), None if arguments.json else Console()
        began = time.monotonic()
        trio.run(until_interrupted, partial(_run, emulation, monitor, console))
        return tell_end(emulation, time.monotonic() - began, as_json=arguments.json)


def plan_of(arguments: argparse.Namespace, config: Path) -> EmulationPlan:
    """Return what is shown; no file is written at ``config``. Raises ConfigError for a life of keys that a generation has not."""
    keys, random = wants_keys(arguments), Random(arguments.seed)
    requests = arguments.requests or (_BESIDE_KEYS if keys else _REQUESTS)
    return EmulationPlan(
        config,
        Load(arguments.rate, requests / arguments.rate),
        seed=arguments.seed,
        computing=lambda: random.uniform(*COMPUTING),
        profile=arguments.profile,
        committee=CommitteePlan(keys=keys),
    )


async def _run(emulation: Emulation, monitor: Monitor, console: Console | None) -> None:
    is_live = console is not None and console.is_terminal
    tell = print if console is not None and not is_live else None
    try:
        async with trio.open_nursery() as nursery:
            if console is not None and is_live:
                nursery.start_soon(watch, partial(_look, monitor), console, _FRAME)
            on_event = monitor.on_event if tell is None else told_in_lines(monitor.on_event, tell)
            await run_demo(emulation, monitor, on_event, offload=offload_to_threads, wall=time.time)
            nursery.cancel_scope.cancel()
    finally:
        if console is not None and is_live:
            console.print(whole(seen(monitor)))  # below the prompt, where the screen of before is shown again


async def _look(monitor: Monitor) -> Mapping[str, Any]:
    await trio.lowlevel.checkpoint()
    return seen(monitor)


def seen(monitor: Monitor) -> Mapping[str, Any]:
    """Return what there is to be seen now."""
    return {"service": "demo", "version": __version__, **status_of(monitor)}


async def run_demo(
    emulation: Emulation, monitor: Monitor, on_event: OnEvent, *, offload: Offload, wall: Callable[[], float]
) -> None:
    """Start the connector, make the requests, and wait until they have been included or that takes too long; drain the connector.

    Raises what ends a connector, and faults of the emulator itself, as a group. Cancellation: at any time.
    """
    async with emulation.dependencies.run_in_memory() as network, trio.open_nursery() as nursery:
        ports = Ports(network, offload, wall, Random(emulation.plan.seed).random)
        connector = await nursery.start(partial(serve, emulation.settings(), ports=ports, on_event=on_event))
        monitor.watch(connector.statistics)
        await emulation.put_load_on()
        connector.drain()


def told_in_lines(on_event: OnEvent, tell: Callable[[str], object]) -> OnEvent:
    """Return what takes events likewise, and tells a line of each request that ended."""
    began = time.monotonic()

    def take(event: Event) -> None:
        on_event(event)
        if isinstance(event, ReplyIncluded | RequestClosed):
            tell(line(event, time.monotonic() - began))

    return take


def line(event: ReplyIncluded | RequestClosed, seconds: float) -> str:
    """Return a request that ended as one line of plain text."""
    identifier = None if event.id is None else f"0x{event.id:064x}"
    request = short_id({"id": identifier, "row": event.rid})
    head = f"{seconds:6.1f} s  {request:12} {event.kind:24}"
    if isinstance(event, RequestClosed):
        reason = "" if event.reason == event.state else f": {event.reason}"
        return f"{head} {event.state}{reason}"
    return f"{head} included {milliseconds(event.seconds):>9}"


COMMANDS: Final = {"demo": CliCommand(configure, execute)}
