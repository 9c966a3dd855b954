"""``kmsconn demo``: a connector among emulated dependencies in one process, for the eye. Opens no port and leaves nothing behind.

The work is in ``kmsconn.emulator.demo``, the looks are in ``demo_view``; here are arguments, a clock and the terminal.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Never

import trio

from kmsconn.emulator.commands.arguments import add_kinds, add_profile, at_least, positive, wants_keys
from kmsconn.emulator.commands.emulate_result import in_milliseconds, keys_as_json
from kmsconn.operate.commands.command import CliCommand, ExitStatus, until_interrupted
from kmsconn.transport.ports import offload_to_threads

if TYPE_CHECKING:
    from rich.console import Console

    from kmsconn.emulator.demo import Demo, DemoResult

_REQUESTS, _BESIDE_KEYS = 40, 300
_FRAMES = 8  # a second: smooth enough for the eye, and cheap beside what is shown


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
    from rich.console import Console

    from kmsconn.emulator.demo import Demo, DemoPlan

    keys = wants_keys(arguments)
    requests = arguments.requests or (_BESIDE_KEYS if keys else _REQUESTS)
    plan = DemoPlan(requests, arguments.rate, arguments.seed, arguments.profile, keys=keys)
    demo = Demo.of(plan, time.time)
    console = None if arguments.json else Console()
    trio.run(until_interrupted, partial(_run, demo, console))
    result = demo.result()
    if console is None:
        print(json.dumps(as_json(result)))
    else:
        _print_summary(result, console)
    return ExitStatus.WELL if result.well else ExitStatus.CRASHED


async def _run(demo: Demo, console: Console | None) -> None:
    from kmsconn.emulator.demo import run_demo

    with tempfile.TemporaryDirectory(prefix="kmsconn-demo-") as directory:
        async with trio.open_nursery() as nursery:
            if console is not None:
                nursery.start_soon(show_live if console.is_terminal else show_lines, demo, console)
            await run_demo(demo, Path(directory) / "journal.db", offload=offload_to_threads, wall=time.time)
            nursery.cancel_scope.cancel()


async def show_live(demo: Demo, console: Console) -> Never:
    """Draw the table again and again until cancelled; the last frame stays."""
    from rich.live import Live

    from kmsconn.emulator.commands.demo_view import frame

    began = trio.current_time()
    with Live(frame(demo, 0, console.height), console=console, auto_refresh=False) as live:
        try:
            while True:
                await trio.sleep(1 / _FRAMES)
                live.update(frame(demo, trio.current_time() - began, console.height), refresh=True)
        finally:
            live.update(frame(demo, trio.current_time() - began, console.height), refresh=True)


async def show_lines(demo: Demo, console: Console) -> Never:
    """Print a line for each request that ended, until cancelled."""
    from kmsconn.emulator.commands.demo_view import line
    from kmsconn.emulator.demo import ProgressStage

    began, told = trio.current_time(), set[int]()
    while True:
        await trio.sleep(1 / _FRAMES)
        for row in demo.progress.rows.values():
            if row.rid not in told and (row.closed or row.stage is ProgressStage.INCLUDED):
                told.add(row.rid)
                console.print(line(demo.progress, row, trio.current_time() - began), highlight=False)


def _print_summary(result: DemoResult, console: Console) -> None:
    from kmsconn.emulator.commands.demo_view import summary

    style = "green" if result.well else "red"
    for text in ("", *summary(result)):
        console.print(f" {text}", style=style, highlight=False, markup=False)


def as_json(result: DemoResult) -> dict[str, Any]:
    """Return the result for machines; latencies from the event's block to the reply's."""
    totals, verdict = result.totals, result.verdict
    keys = {} if result.keys is None else {"keys": keys_as_json(result.keys)}
    return {
        "requests": result.requests,
        "answered": totals.answered,
        "included": totals.included,
        "failed": result.failed,
        "doubled": verdict.doubled,
        "strays": verdict.strays,
        "p50_ms": in_milliseconds(verdict.p50),
        "p99_ms": in_milliseconds(verdict.p99),
        **keys,
    }


COMMANDS: Final = {
    "demo": CliCommand(
        configure,
        execute,
        (
            "kmsconn demo",
            "kmsconn demo --requests 200 --rate 20",
        ),
    )
}
