"""``kmsconn emulate``: serves emulated dependencies on this machine under a load and tells what became of the requests. Decides nothing.

The work is in ``kmsconn.emulator.emulation``; here are arguments, signals and text.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import Final, Never

import trio

from kmsconn.emulator.commands.arguments import (
    add_kinds,
    add_profile,
    address,
    at_least,
    core_url,
    members,
    not_negative,
    positive,
)
from kmsconn.emulator.commands.emulate_plan import SIZE, plan_of
from kmsconn.emulator.commands.emulate_result import progress, tell_end
from kmsconn.emulator.emulation import Emulation, log_calls
from kmsconn.emulator.key_life import KeyLife
from kmsconn.operate.commands.command import CliCommand, until_interrupted

SMALLEST: Final = 32
CORE_RELEASES: Final = ("0.14", "0.15", "0.16")
_PROGRESS = 1.0  # seconds


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add = parser.add_argument
    add_profile(parser)
    add_kinds(parser)
    parser.set_defaults(kinds=None)  # real Cores are led through all
    add(
        "--write-config",
        metavar="FILE",
        type=Path,
        required=True,
        help="path of the connector configuration to write; of a committee one for each member: FILE-1, FILE-2, …",
    )
    add(
        "--rate",
        metavar="R",
        type=not_negative,
        help="requests per second; 0: none, until a signal (10; 0 with --core and no --ciphertexts)",
    )
    add(
        "--posts",
        metavar="R",
        type=not_negative,
        default=0.0,
        help="decryptions that relayers post over HTTP per second, to each connector beside the requests (0)",
    )
    add("--duration", metavar="S", type=positive, default=60.0, help="seconds of requests (60)")
    add(
        "--size",
        metavar="BYTES",
        type=at_least(SMALLEST),
        default=SIZE,
        help=f"bytes of each ciphertext ({SIZE})",
    )
    add("--seed", metavar="N", type=int, default=0, help="the same seed makes the same requests (0)")
    add(
        "--shards",
        metavar="N",
        type=at_least(1),
        default=1,
        help="number of Cores that share the requests (1)",
    )
    add(
        "--members",
        metavar="N",
        type=members,
        help="number of nodes of the committee: 1, 4, 7, 10, …; 2t+1 of 3t+1 must agree (1)",
    )
    add(
        "--core-release",
        metavar="RELEASE",
        nargs="+",
        choices=CORE_RELEASES,
        default=(),
        help="release of the emulated Cores: 0.14, 0.15 or 0.16; several: one for each shard in turn (0.14)",
    )
    _configure_real_parts(parser)
    add(
        "--computing",
        metavar="SECONDS",
        type=not_negative,
        default=0.0,
        help="time of a Core for an answer (0)",
    )
    add(
        "--forms",
        metavar="FORM",
        nargs="+",
        default=(),
        help="forms of requests, in turn: public, delegated; direct, unified, unified_delegated, wallet of fhevm; "
        "user of httpz-rc7 (all, drawn by chance)",
    )
    add(
        "--history",
        metavar="SECONDS",
        type=positive,
        help="how long the emulator keeps Gateway blocks, to limit memory in a long run (for ever)",
    )
    add(
        "--control",
        metavar="PORT",
        type=at_least(1),
        help="loopback port for status, loads and faults by HTTP (none)",
    )
    add(
        "--log",
        action="store_true",
        help="print a line for each request and each call of a Core on standard error",
    )
    add("--json", action="store_true", help="end with one JSON object instead of text")


def _configure_real_parts(parser: argparse.ArgumentParser) -> None:
    """Describe what may stand in the place of emulated parts."""
    add = parser.add_argument
    add(
        "--core",
        metavar="URL",
        type=core_url,
        action="append",
        default=[],
        help="a real Core in place of the emulated one, once for each member; it is led through announcement, key, CRS, "
        "context and epoch before any request (--kinds decryptions: it is not)",
    )
    add(
        "--signer",
        metavar="ADDRESS",
        type=address,
        action="append",
        default=[],
        help="the address with which that Core signs, once for each --core",
    )
    add(
        "--params",
        choices=("default", "test"),
        default="default",
        help="FHE parameters of the keys that are made (default)",
    )
    add(
        "--upgrade",
        action="store_true",
        help="lead the key lifecycle of --kinds all through an upgrade of KMSGeneration to 0.3.0 and a migration of the key "
        "(--members 4 or more; emulated Cores)",
    )
    add(
        "--ciphertexts",
        metavar="FILE",
        type=Path,
        help="JSON list of ready-made ciphertexts: path, type, value, format, key_id; public plaintexts are compared "
        "with the values",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Emulate until the load is over or a signal comes. Raises ConfigError when the file cannot be written."""
    emulation = Emulation.of(plan_of(arguments))
    if arguments.log:
        log_calls(emulation.dependencies, emulation.ground_truth, partial(print, file=sys.stderr, flush=True))
    began = time.monotonic()
    trio.run(until_interrupted, partial(_run, emulation))
    return tell_end(emulation, time.monotonic() - began, as_json=arguments.json)


async def _run(emulation: Emulation) -> None:
    async with trio.open_nursery() as nursery:
        if sys.stderr.isatty():
            nursery.start_soon(_show_progress, emulation)
        if emulation.plan.committee.real_cores and emulation.keys is not None:
            nursery.start_soon(_show_steps, emulation.keys)
        await emulation.run()
        nursery.cancel_scope.cancel()


async def _show_steps(keys: KeyLife) -> None:
    """Print each step of a life of keys once it is done: a real Core may take minutes for one."""
    for number, name in enumerate(keys.steps, 1):
        while len(keys.done) < number:  # noqa: ASYNC110 - the steps are looked at from outside
            await trio.sleep(_PROGRESS)
        print(f"step {number} of {len(keys.steps)} is done: {name}", file=sys.stderr, flush=True)


async def _show_progress(emulation: Emulation) -> Never:
    began = trio.current_time()
    while True:
        await trio.sleep(_PROGRESS)
        verdict = emulation.ground_truth.verdict()
        print(progress(verdict, trio.current_time() - began), file=sys.stderr, flush=True)


COMMANDS: Final = {"emulate": CliCommand(configure, execute)}
