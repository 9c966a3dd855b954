"""What ``kmsconn emulate`` is to emulate, from its arguments. Starts nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from kmsconn.emulator.ciphertext_file import read_ciphertexts
from kmsconn.emulator.commands.arguments import KINDS, committee_size, wants_keys
from kmsconn.emulator.core_requests import RELEASES
from kmsconn.emulator.dependencies import RealCore
from kmsconn.emulator.emulation import CommitteePlan, EmulationPlan
from kmsconn.emulator.key_ceremonies import DEFAULT_PARAMS, TEST_PARAMS
from kmsconn.emulator.load import Load
from kmsconn.emulator.traffic import GENERATIONS
from kmsconn.errors import ConfigError, Fault
from kmsconn.model.requests import PROFILES

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
    there = GENERATIONS[arguments.profile].forms
    for form in arguments.forms:
        if form not in there:
            yield Fault("--forms", f"{arguments.profile} has no form {form!r}", f"it has {', '.join(there)}")
    cores, signers, members = len(arguments.core), len(arguments.signer), arguments.members
    size = _size_fault(cores) if cores else ""
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


def _size_fault(cores: int) -> str:
    try:
        committee_size(cores)
    except ValueError as error:
        return str(error)
    return ""
