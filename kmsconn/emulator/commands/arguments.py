"""What the commands that emulate have alike: arguments, and what came of emulated requests and keys, in words and for machines."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

import attrs

from kmsconn.config import forms
from kmsconn.config.places import core_endpoints
from kmsconn.emulator.emulation import Emulation, EmulationResult
from kmsconn.emulator.ground_truth import ChainVerdict
from kmsconn.emulator.key_life import KeyResult
from kmsconn.emulator.load import PostVerdict
from kmsconn.errors import ConfigError, Fault
from kmsconn.ethereum.addresses import parse_address
from kmsconn.model.requests import PROFILE_ALIASES, PROFILES
from kmsconn.operate.commands.command import ExitStatus

T = TypeVar("T")

_NODES_PER_FAULT: Final = 3
KINDS: Final = ("decryptions", "all")


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Describe which generation is emulated."""
    parser.add_argument(
        "--profile",
        type=lambda text: PROFILE_ALIASES.get(text, text),
        choices=PROFILES,
        default=PROFILES[0],
        help=f"the generation ({PROFILES[0]})",
    )


def add_kinds(parser: argparse.ArgumentParser) -> None:
    """Describe which kinds of requests there are."""
    words = "decryptions, or all: also a key lifecycle of fhevm (decryptions)"
    parser.add_argument("--kinds", choices=KINDS, default=KINDS[0], help=words)


def wants_keys(arguments: argparse.Namespace) -> bool:
    """Tell whether a life of keys is wanted. Raises ConfigError for a generation that has none here."""
    wanted: bool = arguments.kinds == KINDS[1]
    if wanted and arguments.profile != PROFILES[0]:
        reason = f"{arguments.profile} has no emulated key lifecycle: use --kinds decryptions"
        raise ConfigError((Fault("--kinds", reason, "leave it out"),))
    return wanted


def read_by(read: Callable[[str], T]) -> Callable[[str], T]:
    """Return a reader that says in the words of ``read`` what is wrong with a text. Raises ArgumentTypeError."""

    def taken(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return taken


def _number(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError(f"must be a number of at least zero, not {text!r}")
    return number


def _positive(text: str) -> float:
    if not (number := _number(text)):
        raise ValueError("must be above zero")
    return number


def committee_fault(number: int) -> str:
    """Say what is wrong with the number of nodes of a committee, 3t + 1 as the Cores demand; nothing where nothing is."""
    return "" if number % _NODES_PER_FAULT == 1 else f"must be 1, 4, 7, 10 and so on (3t + 1), not {number}"


def _members(text: str) -> int:
    if fault := committee_fault(number := forms.at_least(1, text)):
        raise ValueError(fault)
    return number


def at_least(minimum: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from ``minimum`` on, which raises ArgumentTypeError."""
    return read_by(partial(forms.at_least, minimum))


not_negative = read_by(_number)
positive = read_by(_positive)
members = read_by(_members)
core_url = read_by(lambda text: core_endpoints([text])[0])
address = read_by(parse_address)


def milliseconds(seconds: float | None) -> str:
    """Return a latency as text."""
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def in_milliseconds(seconds: float | None) -> float | None:
    """Return a latency as a number."""
    return None if seconds is None else round(seconds * 1000, 1)


def keys_as_text(keys: KeyResult) -> Iterator[str]:
    """Yield what came of a life of keys as lines."""
    verdict = keys.verdict
    doubles = f"{verdict.doubled} transactions too many" if verdict.doubled else "none twice"
    yield f"keys: {len(keys.done)} of {keys.steps} steps ({', '.join(keys.done)})"
    yield f"      {len(verdict.replied)} replies included on Ethereum, {len(verdict.open)} open, {len(verdict.aborted)} aborted, {doubles}"


def keys_as_json(keys: KeyResult) -> dict[str, Any]:
    """Return what came of a life of keys for machines."""
    verdict = keys.verdict
    return {
        "steps": list(keys.done),
        "included": len(verdict.replied),
        "open": len(verdict.open),
        "aborted": len(verdict.aborted),
        "doubled": verdict.doubled,
        "well": keys.well,
    }


_WELL, _BADLY = "every request was answered once", "NOT every request was answered once"
_CONSENSUS = "every request found consensus"
_NO_CONSENSUS = "NOT every request found consensus, each node's answer once"


def progress(verdict: ChainVerdict, seconds: float) -> str:
    """Return one line on how far it is."""
    counts = f"{verdict.emitted:6} emitted  {verdict.answered:6} answered  {verdict.open:5} open"
    doubled = f"  {verdict.doubled} doubled" if verdict.doubled else ""
    return f"{seconds:5.0f} s  {counts}{doubled}  p50 {milliseconds(verdict.p50)}"


def tell_end(emulation: Emulation, seconds: float, *, as_json: bool) -> ExitStatus:
    """Print what came of an emulation, and return the status with which its command ends."""
    result = emulation.result()
    print(json.dumps(summary(result, seconds)) if as_json else "\n".join(report(result, seconds)))
    for crash in emulation.dependencies.crashes:
        print(f"kmsconn: the emulator itself failed: {crash!r}", file=sys.stderr)
    return ExitStatus.WELL if result.well else ExitStatus.CRASHED


def report(result: EmulationResult, seconds: float) -> Iterator[str]:
    """Yield the result as lines of text."""
    verdict, alone = result.verdict, len(result.verdict.nodes) == 1
    yield f"emitted    {verdict.emitted} in {seconds:.1f} s"
    if not alone:
        yield f"consensus  {verdict.consensus}"
    for number, node in enumerate(verdict.nodes, 1):
        counts = f"{node.answered} answered, {node.open} open, {node.doubled} doubled"
        strays = f", {node.strays} replies to unknown ids" if node.strays else ""
        latency = f"p50 {milliseconds(node.p50)}, p99 {milliseconds(node.p99)} from the event's block to the reply's"
        yield f"node {number:<4}  {counts}{strays}; {latency}"
    yield from _report_of_the_rest(result)
    well, badly = (_WELL, _BADLY) if alone else (_CONSENSUS, _NO_CONSENSUS)
    yield well if verdict.well else badly


def summary(result: EmulationResult, seconds: float) -> dict[str, Any]:
    """Return the result for machines: of the one node, or of the committee with a list of its ``nodes``."""
    verdict = result.verdict
    rows = [_node(node) for node in verdict.nodes]
    for row, keys in zip(rows, result.keys, strict=False):
        row["keys"] = keys_as_json(keys)
    counts = {"emitted": verdict.emitted, "consensus": verdict.consensus}
    told: dict[str, Any] = {**counts, "seconds": round(seconds, 3)}
    told |= {} if result.plaintexts is None else {"plaintexts": attrs.asdict(result.plaintexts)}
    told |= _posts(result)
    if len(rows) == 1:
        return told | rows[0]
    wrong = {name: sum(row[name] for row in rows) for name in ("doubled", "strays")}
    return told | wrong | {"nodes": rows}


def _report_of_the_rest(result: EmulationResult) -> Iterator[str]:
    if result.keys:
        yield from keys_as_text(result.keys[0])
    if not result.keys_well:
        yield "NOT every step of the key lifecycle succeeded"
    if (plaintexts := result.plaintexts) is not None:
        yield f"plaintexts: {plaintexts.compared} public replies compared, {plaintexts.wrong} wrong"
    if result.posts is not None:
        yield _posts_as_text(result.posts)


def _posts_as_text(posts: PostVerdict) -> str:
    failed = "".join(f", {number} {code}" for code, number in sorted(posts.codes.items()) if code != "ok")
    times = f"p50 {milliseconds(posts.p50)}, p99 {milliseconds(posts.p99)}"
    return f"posted over HTTP: {posts.posted}, {posts.answered} answered{failed}, {posts.repeated} repetitions; {times}"


def _posts(result: EmulationResult) -> dict[str, Any]:
    posts = result.posts
    if posts is None:
        return {}
    times = {"p50_ms": in_milliseconds(posts.p50), "p99_ms": in_milliseconds(posts.p99)}
    counts = {"posted": posts.posted, "answered": posts.answered, "repeated": posts.repeated}
    return {"posts": {**counts, "codes": dict(posts.codes), **times}}


def _node(verdict: ChainVerdict) -> dict[str, Any]:
    counts = {name: getattr(verdict, name) for name in ("answered", "doubled", "open", "strays")}
    return {**counts, "p50_ms": in_milliseconds(verdict.p50), "p99_ms": in_milliseconds(verdict.p99)}
