"""``python -m bench``: offers loads to a connector among emulated dependencies; prints a table, writes a JSON file. Judges nothing."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio

from bench import table
from bench.connector import OURS, STRAIGHT, Recipe, add_connector, checkout, connector_name, recipe_of
from bench.machine import ROOT, commit_of, write_report
from bench.offering import Case, Climb, Plan, Usage, climb
from bench.rows import Row, collect
from bench.series import columns_of
from kmsconn.emulator.fhevm_dependencies import GENERATIONS
from kmsconn.model.requests import FHEVM

SIZES = (205, 64 * table.KIB, table.MIB)
QUICK_RATES, QUICK_SECONDS = (50.0,), 5.0
HIGHEST_RATES = (100.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0, 600.0, 800.0, 1000.0)
RATES = (10.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


def parser() -> argparse.ArgumentParser:
    """Return the arguments."""
    made = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = made.add_argument
    add("--sizes", type=int, nargs="+", default=SIZES, metavar="BYTES", help="of each ciphertext")
    add("--rates", type=float, nargs="+", default=RATES, metavar="R", help="requests per second, ascending")
    add("--seconds", type=float, default=10.0, metavar="S", help="of each load (10)")
    add("--quick", action="store_true", help="a minute: few rates, short loads")
    add(
        "--highest",
        action="store_true",
        help="a rate after the other until one is not kept up with, and which process or whether all cores were full",
    )
    add("--loads-only", action="store_true", help="neither single calls nor the emulator's ceiling")
    add_connector(made, Plan().computing)
    add(
        "--against",
        type=checkout,
        metavar="FOLDER",
        help="another checkout, in turn with the connector that is chosen",
    )
    add("--rounds", type=int, default=3, metavar="N", help="of both, with --against (3)")
    add("--profile", choices=GENERATIONS, default=FHEVM, help="the generation")
    add(
        "--forms",
        nargs="+",
        default=(),
        metavar="FORM",
        help="of requests, in turn, as in kmsconn emulate (all, by chance)",
    )
    add("--name", default="", metavar="TEXT", help="what the run is called")
    add("--out", type=Path, default=Path("bench-results.json"), metavar="FILE", help="the JSON file")
    return made


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the arguments: ``--quick`` and ``--highest`` stand for others, of which those that are given count."""
    found, made = parser().parse_args(words), parser()
    if found.highest:
        made.set_defaults(rates=HIGHEST_RATES, seconds=15.0, sizes=SIZES[:1], loads_only=True)
    if found.quick:
        made.set_defaults(rates=QUICK_RATES, seconds=QUICK_SECONDS)
    return made.parse_args(words)


@attrs.frozen
class Found:
    """What was measured: the connector by size, the straight client by size, single calls."""

    climbs: Mapping[int, Climb]
    ceilings: Mapping[int, Climb]
    calls: Sequence[Row]
    against: Mapping[str, Sequence[Case]] = attrs.field(factory=dict)
    """The cases of two checkouts that were measured in turn."""


async def measure(arguments: argparse.Namespace) -> Found:
    """Measure single calls, then offer every load of every size."""
    rows = calls() if is_whole(arguments) else []
    columns = columns_of_cases(arguments)
    plan = Plan(
        arguments.seconds,
        arguments.computing,
        arguments.profile,
        tuple(arguments.forms),
        told=lambda case: print(table.row(columns, case), flush=True),
    )
    print(table.legend(commit_of(ROOT)), *told_of(arguments), table.heading(columns), sep="\n", flush=True)
    climbs: dict[int, Climb] = {}
    ceilings: dict[int, Climb] = {}
    if arguments.against is not None:
        return Found(climbs, ceilings, rows, await in_turn(arguments, plan))
    for size in arguments.sizes:
        climbs[size] = await climb_anew(recipe_of(arguments), size, arguments.rates, plan)
        rates = beyond(climbs[size], arguments.rates) if is_whole(arguments) else []
        if rates:
            print("the straight client in its place:", flush=True)
            ceilings[size] = await climb_anew(Recipe(STRAIGHT), size, rates, plan)
    return Found(climbs, ceilings, rows)


def told_of(arguments: argparse.Namespace) -> Sequence[str]:
    """Return what a reader must know of another connector: its environment would let even ours do without websockets."""
    if arguments.connector == OURS or arguments.ceiling:
        return []
    return ["its environment names HTTP addresses of chains: what reads them is measured without websockets"]


async def in_turn(arguments: argparse.Namespace, plan: Plan) -> Mapping[str, Sequence[Case]]:
    """Offer every load to the connector that is chosen and to that of another checkout, round by round; print both, compared."""
    chosen = recipe_of(arguments)
    other = attrs.evolve(chosen, python_path=str(arguments.against))
    found: dict[str, list[Case]] = {"chosen": [], "against": []}
    for _ in range(arguments.rounds):
        for side, recipe in (("chosen", chosen), ("against", other)):
            print(f"{side}:", flush=True)
            for size in arguments.sizes:
                found[side] += (await climb_anew(recipe, size, arguments.rates, plan)).cases
    print(*table.compared(found["chosen"], found["against"]), sep="\n", flush=True)
    return found


def columns_of_cases(arguments: argparse.Namespace) -> Sequence[table.Column]:
    """Return the columns of the table."""
    return table.columns_of_the_highest(os.cpu_count() or 1) if arguments.highest else table.columns()


async def climb_anew(recipe: Recipe, size: int, rates: Sequence[float], plan: Plan) -> Climb:
    """Offer every load of a size in a folder of its own, and print what it came to."""
    with tempfile.TemporaryDirectory(prefix="kmsconn-bench-") as folder:
        found = await climb(recipe, Path(folder), size, rates, plan)
    concluded = table.conclusion(found.cases, os.cpu_count() or 1)
    print(f"{table.idle(size, found.idle)}; {concluded}", flush=True)
    return found


def is_whole(arguments: argparse.Namespace) -> bool:
    """Say whether the whole benchmark is wanted: single calls and the emulator's ceiling too."""
    ours = arguments.connector == OURS and not arguments.ceiling and arguments.profile == FHEVM
    return ours and not (arguments.quick or arguments.loads_only or arguments.against)


def beyond(climbed: Climb, rates: Sequence[float]) -> list[float]:
    """Return the rates that a connector did not keep up with."""
    kept = {case.outcome.offered_rate for case in climbed.cases if case.outcome.sustained}
    return [rate for rate in rates if rate not in kept]


def calls() -> list[Row]:
    """Measure what single calls cost."""
    found = []
    for row in collect():
        print(row, flush=True)
        found.append(row)
    return found


PARAMETERS = ("name", "profile", "forms", "sizes", "rates", "seconds", "computing")


def report(arguments: argparse.Namespace, found: Found) -> dict[str, Any]:
    """Return everything for the JSON file."""
    return {
        "connector": connector_name(arguments),
        "cases": _cases(found.climbs),
        "against": {side: [attrs.asdict(case) for case in cases] for side, cases in found.against.items()},
        "ceiling": _cases(found.ceilings),
        "idle": {str(size): _asdict(climbed.idle) for size, climbed in found.climbs.items()},
        "samples": {str(size): columns_of(climbed.samples) for size, climbed in found.climbs.items()},
        "calls": [attrs.asdict(row) for row in found.calls],
    }


def _cases(climbs: Mapping[int, Climb]) -> list[dict[str, Any]]:
    return [attrs.asdict(case) for climbed in climbs.values() for case in climbed.cases]


def _asdict(idle: Mapping[str, Usage]) -> dict[str, Any]:
    return {side: attrs.asdict(used) for side, used in idle.items()}


def main() -> None:
    """Measure and write."""
    arguments = parse()
    found = trio.run(measure, arguments)
    write_report(arguments.out, arguments, PARAMETERS, report(arguments, found))


if __name__ == "__main__":
    main()
