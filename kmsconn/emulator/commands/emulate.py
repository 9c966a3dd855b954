"""``kmsconn emulate``: serves emulated dependencies on this machine under a load and tells what became of the requests. Decides nothing.

The work is in ``kmsconn.emulator.emulation``; here are arguments and what they come to, signals and text.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, Never

import trio

from kmsconn.emulator.ciphertexts import read_ciphertexts
from kmsconn.emulator.commands.arguments import (
    KINDS,
    add_kinds,
    add_profile,
    address,
    at_least,
    committee_fault,
    core_url,
    members,
    not_negative,
    positive,
    progress,
    tell_end,
    wants_keys,
)
from kmsconn.emulator.core_requests import RELEASES
from kmsconn.emulator.dependencies import RealCore
from kmsconn.emulator.emulation import CommitteePlan, Emulation, EmulationPlan, log_calls
from kmsconn.emulator.fhevm_dependencies import GENERATIONS
from kmsconn.emulator.key_ceremonies import DEFAULT_PARAMS, TEST_PARAMS
from kmsconn.emulator.key_life import KeyLife
from kmsconn.emulator.load import Load
from kmsconn.errors import ConfigError, Fault
from kmsconn.model.requests import PROFILES
from kmsconn.operate.commands.command import CliCommand, until_interrupted

_RATE = 10.0
SIZE = 1024
"""Bytes of an emulated ciphertext."""
_THRESHOLD_MEMBERS = 4
"""The smallest committee of threshold Cores."""


def plan_of(arguments: argparse.Namespace) -> EmulationPlan:
    """Return the plan. Raises ConfigError with what does not fit together, or cannot be read."""
    if faults := tuple(_faults(arguments)):
        raise ConfigError(faults)
    return EmulationPlan(
        config=arguments.write_config,
        load=_load(arguments),
        size=arguments.size,
        seed=arguments.seed,
        shards=arguments.shards,
        releases=tuple(RELEASES[one] for one in arguments.core_release),
        computing=arguments.computing,
        control=arguments.control,
        history=arguments.history,
        profile=arguments.profile,
        committee=_committee(arguments),
        ciphertexts=() if arguments.ciphertexts is None else read_ciphertexts(arguments.ciphertexts),
    )


def _load(arguments: argparse.Namespace) -> Load | None:
    """Return the load; real Cores have nothing to decrypt where no ciphertexts are given."""
    usual = 0.0 if arguments.core and arguments.ciphertexts is None else _RATE
    rate = usual if arguments.rate is None else arguments.rate
    forms, posts = tuple(arguments.forms), arguments.posts
    return Load(rate, arguments.duration, forms, posts=posts) if rate or posts else None


def _committee(arguments: argparse.Namespace) -> CommitteePlan:
    if arguments.kinds is None:
        arguments.kinds = KINDS[1] if arguments.core else KINDS[0]
    real_cores = tuple(map(RealCore, arguments.core, arguments.signer))
    return CommitteePlan(
        arguments.members or len(real_cores) or 1,
        real_cores,
        wants_keys(arguments),
        TEST_PARAMS if arguments.params == "test" else DEFAULT_PARAMS,
        migrates=arguments.upgrade,
    )


def _faults(arguments: argparse.Namespace) -> Iterator[Fault]:
    """Yield what does not fit together: forms, real Cores and ciphertexts, and an upgrade with a migration."""
    there = GENERATIONS[arguments.profile].names
    for form in arguments.forms:
        if form not in there:
            yield Fault("--forms", f"{arguments.profile} has no form {form!r}", f"it has {', '.join(there)}")
    cores, signers, members = len(arguments.core), len(arguments.signer), arguments.members
    size = committee_fault(cores) if cores else ""
    profile, is_first = arguments.profile, arguments.profile == PROFILES[0]
    use, unled = f"use {PROFILES[0]}", arguments.kinds != KINDS[1]
    nothing_to_decrypt = cores and arguments.ciphertexts is None and arguments.rate
    is_central = not arguments.core and (members or 1) < _THRESHOLD_MEMBERS
    rows: tuple[tuple[object, str, str, str], ...] = (
        (cores != signers, "--signer", f"is given {signers} times, --core {cores} times", "name both for each member"),
        (cores and members not in {None, cores}, "--core", f"is given {cores} times for {members} members", "name one Core for each"),
        (size, "--core", f"the number of Cores {size}", ""),
        (cores and arguments.shards > 1, "--shards", "is for emulated Cores", "leave it out: each --core is one"),
        (cores and arguments.computing, "--computing", "is for emulated Cores", "leave it out"),
        (cores and arguments.size != SIZE, "--size", "is for emulated ciphertexts", "leave it out"),
        (arguments.core_release and (cores or not is_first), "--core-release", "is for emulated Cores of fhevm", "leave it out"),
        (arguments.posts and not is_first, "--profile", f"{profile} takes nothing over HTTP", use),
        ((cores or arguments.ciphertexts) and not is_first, "--profile", f"{profile} takes no real Cores or ciphertexts", use),
        (nothing_to_decrypt, "--rate", "real Cores cannot decrypt emulated ciphertexts", "give --ciphertexts or --rate 0"),
        (arguments.upgrade and unled, "--upgrade", "no key lifecycle is led", f"give --kinds {KINDS[1]}"),
        (arguments.upgrade and cores, "--upgrade", "real Cores are led through no upgrade", "leave out --upgrade or --core"),
        (arguments.upgrade and is_central, "--upgrade", "a centralised Core cannot migrate a key",
         f"give --members {_THRESHOLD_MEMBERS} or more"),
    )  # fmt: skip
    yield from (Fault(option, reason, remedy) for wrong, option, reason, remedy in rows if wrong)


SMALLEST: Final = 32
CORE_RELEASES: Final = ("0.14", "0.15", "0.16")
_PROGRESS = 1.0  # seconds

_FLAG: Final = {"action": "store_true"}
_ARGUMENTS: Final[tuple[tuple[str, str | None, dict[str, Any], str], ...]] = (
    ("--write-config", "FILE", {"type": Path, "required": True},
     "path of the connector configuration to write; of a committee one for each member: FILE-1, FILE-2, …"),
    ("--rate", "R", {"type": not_negative}, "requests per second; 0: none, until a signal (10; 0 with --core and no --ciphertexts)"),
    ("--posts", "R", {"type": not_negative, "default": 0.0},
     "decryptions that relayers post over HTTP per second, to each connector beside the requests (0)"),
    ("--duration", "S", {"type": positive, "default": 60.0}, "seconds of requests (60)"),
    ("--size", "BYTES", {"type": at_least(SMALLEST), "default": SIZE}, f"bytes of each ciphertext ({SIZE})"),
    ("--seed", "N", {"type": int, "default": 0}, "the same seed makes the same requests (0)"),
    ("--shards", "N", {"type": at_least(1), "default": 1}, "number of Cores that share the requests (1)"),
    ("--members", "N", {"type": members}, "number of nodes of the committee: 1, 4, 7, 10, …; 2t+1 of 3t+1 must agree (1)"),
    ("--core-release", "RELEASE", {"nargs": "+", "choices": CORE_RELEASES, "default": ()},
     "release of the emulated Cores: 0.14, 0.15 or 0.16; several: one for each shard in turn (0.14)"),
    ("--core", "URL", {"type": core_url, "action": "append", "default": []},
     ("a real Core in place of the emulated one, once for each member; it is led through announcement, key, CRS, "
     "context and epoch before any request (--kinds decryptions: it is not)")),
    ("--signer", "ADDRESS", {"type": address, "action": "append", "default": []},
     "the address with which that Core signs, once for each --core"),
    ("--params", None, {"choices": ("default", "test"), "default": "default"}, "FHE parameters of the keys that are made (default)"),
    ("--upgrade", None, _FLAG,
     ("lead the key lifecycle of --kinds all through an upgrade of KMSGeneration to 0.3.0 and a migration of the key "
     "(--members 4 or more; emulated Cores)")),
    ("--ciphertexts", "FILE", {"type": Path},
     "JSON list of ready-made ciphertexts: path, type, value, format, key_id; public plaintexts are compared with the values"),
    ("--computing", "SECONDS", {"type": not_negative, "default": 0.0}, "time of a Core for an answer (0)"),
    ("--forms", "FORM", {"nargs": "+", "default": ()},
     ("forms of requests, in turn: public, delegated; direct, unified, unified_delegated, wallet of fhevm; "
     "user of httpz-rc7 (all, drawn by chance)")),
    ("--history", "SECONDS", {"type": positive},
     "how long the emulator keeps Gateway blocks, to limit memory in a long run (for ever)"),
    ("--control", "PORT", {"type": at_least(1)}, "loopback port for status, loads and faults by HTTP (none)"),
    ("--log", None, _FLAG, "print a line for each request and each call of a Core on standard error"),
    ("--json", None, _FLAG, "end with one JSON object instead of text"),
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add_profile(parser)
    add_kinds(parser)
    parser.set_defaults(kinds=None)  # real Cores are led through all
    for name, metavar, how, words in _ARGUMENTS:
        named: dict[str, Any] = {"metavar": metavar} if metavar else {}
        parser.add_argument(name, help=words, **named, **how)


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
