"""``python -m bench``: offers loads to a connector among emulated neighbours; prints a table, writes a JSON file. Judges nothing."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from bench import table
from bench.connector import OURS
from bench.machine import ROOT, describe
from bench.offering import Climb, Plan, Usage, climb
from bench.plots import draw
from bench.recipes import add_connector, connector_name, recipe_of
from bench.rows import Row, collect
from bench.series import columns_of

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
    add("--no-calls", action="store_true", help="leave out what single calls cost")
    add_connector(made, Plan().computing)
    add("--name", default="", metavar="TEXT", help="what the run is called")
    add("--out", type=Path, default=Path("bench-results.json"), metavar="FILE", help="the JSON file")
    return made


async def measure(arguments: argparse.Namespace) -> dict[int, Climb]:
    """Offer every load of every size."""
    plan = Plan(arguments.seconds, arguments.computing, told=lambda case: print(table.row(case), flush=True))
    print(table.heading(), flush=True)
    found = {}
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory(prefix="kmsconn-bench-") as folder:
            found[size] = await climb(recipe_of(arguments), Path(folder), size, arguments.rates, plan)
        print(f"{table.idle(size, found[size].idle)}; {table.conclusion(found[size].cases)}", flush=True)
    return found


def calls(arguments: argparse.Namespace) -> list[Row]:
    """Return what single calls cost, unless that is not wanted or somebody else's connector is measured."""
    found: list[Row] = []
    if not (arguments.no_calls or arguments.quick or arguments.ceiling or arguments.connector != OURS):
        for row in collect():
            print(row, flush=True)
            found.append(row)
    return found


def report(
    arguments: argparse.Namespace, climbs: Mapping[int, Climb], rows: Sequence[Row] = ()
) -> dict[str, Any]:
    """Return everything for the JSON file."""
    told = ("name", "sizes", "rates", "seconds", "computing")
    return {
        "machine": describe(arguments.checkout or ROOT),
        "parameters": {name: getattr(arguments, name) for name in told},
        "connector": connector_name(arguments),
        "cases": [attrs.asdict(case) for climbed in climbs.values() for case in climbed.cases],
        "idle": {str(size): _asdict(climbed.idle) for size, climbed in climbs.items()},
        "samples": {str(size): columns_of(climbed.samples) for size, climbed in climbs.items()},
        "calls": [attrs.asdict(row) for row in rows],
    }


def _asdict(idle: Mapping[str, Usage]) -> dict[str, Any]:
    return {side: attrs.asdict(used) for side, used in idle.items()}


def shorten(arguments: argparse.Namespace) -> None:
    """Make the measurement one of a minute."""
    arguments.rates, arguments.seconds = QUICK_RATES, QUICK_SECONDS


def main() -> None:
    """Measure and write."""
    arguments = parser().parse_args()
    if arguments.quick:
        shorten(arguments)
    rows = calls(arguments)
    climbs = trio.run(partial(measure, arguments))
    arguments.out.write_text(json.dumps(report(arguments, climbs, rows)), encoding="utf-8")
    print(*draw(arguments.out), sep="\n")


if __name__ == "__main__":
    main()
