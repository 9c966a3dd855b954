"""``python -m bench``: offers loads to a connector among emulated neighbours; prints a table, writes a JSON file. Judges nothing."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from bench import table
from bench.connector import OURS, STRAIGHT, Recipe
from bench.machine import ROOT, describe
from bench.offering import Case, Plan, climb
from bench.rows import Row, collect

SIZES = (205, 64 * table.KIB, table.MIB)
QUICK_RATES, QUICK_SECONDS = (50.0,), 5.0
RATES = (10.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


def parser() -> argparse.ArgumentParser:
    """Return the arguments."""
    made = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = made.add_argument
    add("--sizes", type=int, nargs="+", default=SIZES, metavar="BYTES", help="of each ciphertext")
    add("--rates", type=float, nargs="+", default=RATES, metavar="R", help="requests per second, ascending")
    add("--seconds", type=float, default=10.0, metavar="S", help="of each load (10)")
    add("--quick", action="store_true", help="a minute: few rates, short loads")
    add("--computing", type=float, default=0.01, metavar="S", help="time of the Core for an answer (0.01)")
    add("--no-calls", action="store_true", help="leave out what single calls cost")
    add(
        "--ceiling",
        action="store_true",
        help="measure the emulator: the least of a client, see bench/straight.py",
    )
    add("--connector", default=OURS, metavar="COMMAND", help="another connector; see bench/connector.py")
    add("--config-template", type=Path, metavar="FILE", help="its configuration file, with places")
    add("--checkout", type=Path, metavar="FOLDER", help="another checkout of kmsconn to run")
    add("--name", default="", metavar="TEXT", help="what the run is called")
    add("--out", type=Path, default=Path("bench-results.json"), metavar="FILE", help="the JSON file")
    return made


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """Return which connector is measured."""
    template = arguments.config_template
    if arguments.ceiling:
        return Recipe(STRAIGHT)
    return Recipe(
        arguments.connector,
        None if template is None else template.read_text(encoding="utf-8"),
        None if arguments.checkout is None else str(arguments.checkout.absolute()),
    )


async def measure(arguments: argparse.Namespace) -> list[Case]:
    """Offer every load of every size."""
    plan = Plan(arguments.seconds, arguments.computing, told=lambda case: print(table.row(case), flush=True))
    print(table.heading(), flush=True)
    cases: list[Case] = []
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory(prefix="kmsconn-bench-") as folder:
            cases += await climb(recipe_of(arguments), Path(folder), size, arguments.rates, plan)
    return cases


def calls(arguments: argparse.Namespace) -> list[Row]:
    """Return what single calls cost, unless that is not wanted or somebody else's connector is measured."""
    found: list[Row] = []
    if not (arguments.no_calls or arguments.quick or arguments.ceiling or arguments.connector != OURS):
        for row in collect():
            print(row, flush=True)
            found.append(row)
    return found


def report(arguments: argparse.Namespace, cases: list[Case], rows: Sequence[Row] = ()) -> dict[str, Any]:
    """Return everything for the JSON file."""
    told = ("name", "sizes", "rates", "seconds", "computing")
    return {
        "machine": describe(arguments.checkout or ROOT),
        "parameters": {name: getattr(arguments, name) for name in told},
        "connector": connector_name(arguments),
        "cases": [attrs.asdict(case) for case in cases],
        "calls": [attrs.asdict(row) for row in rows],
    }


def connector_name(arguments: argparse.Namespace) -> str:
    """Return what was measured."""
    if arguments.ceiling:
        return "straight client"
    return "kmsconn" if arguments.connector == OURS else str(arguments.connector)


def shorten(arguments: argparse.Namespace) -> None:
    """Make the measurement one of a minute."""
    arguments.rates, arguments.seconds = QUICK_RATES, QUICK_SECONDS


def main() -> None:
    """Measure and write."""
    arguments = parser().parse_args()
    if arguments.quick:
        shorten(arguments)
    rows = calls(arguments)
    cases = trio.run(partial(measure, arguments))
    arguments.out.write_text(json.dumps(report(arguments, cases, rows), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
