"""``python -m bench.soak``: a steady load for a long time while dependencies fail and come back; a verdict and a JSON file.

Each second memory, descriptors and CPU of both sides and the number of open requests are noted. At fixed shares of the time, over real
sockets: the Core restarts and forgets everything; the node is gone and comes back with the same chain; one bucket is gone, then all;
the Core is gone and comes back with an empty memory. ``bench.members`` disturbs the connector's processes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Never

import attrs
import trio

from bench.connector import add_connector, connector_name, recipe_of
from bench.figures import ANSWERED, VISIBLE, outcome
from bench.machine import write_report
from bench.offering import Pair, Plan, open_pair
from bench.proc import Sample
from bench.processes import kept
from bench.series import columns_of, stalled_alerts
from bench.table import milliseconds

LATE = 120.0  # seconds after the last request in which open ones may still be answered
LONGEST_OUTAGE = 20.0
PARAMETERS = ("minutes", "rate", "size", "computing", "processes", "postgresql")
HISTORY = ("--history", "300")  # more than anybody looks back; all of half an hour would be much memory


@attrs.frozen
class PlanStep:
    """What is done at a share of the time: posts to the emulator's control, undone after the outage where there is a way back."""

    at: float
    name: str
    paths: tuple[str, ...]
    back: tuple[str, ...] = ()


DISTURBANCES = (
    PlanStep(1 / 6, "Core restarts", ("/core0/restart",)),
    PlanStep(2 / 6, "node gone", ("/gateway/shut",), ("/gateway/open",)),
    PlanStep(3 / 6, "a bucket gone", ("/bucket0/shut",), ("/bucket0/open",)),
    PlanStep(4 / 6, "buckets gone", ("/bucket0/shut", "/bucket1/shut"), ("/bucket0/open", "/bucket1/open")),
    PlanStep(5 / 6, "Core gone", ("/core0/shut", "/core0/restart"), ("/core0/open",)),
)


@attrs.frozen
class Happening:
    """Something that was done, and when (Unix seconds)."""

    at: float
    name: str


@attrs.frozen
class Verdict:
    """What the chain says at the end. ``doubled``: further transactions for a request, whatever became of them."""

    emitted: int
    answered: int
    lost: int
    doubled: int
    strays: int

    @property
    def well(self) -> bool:
        """Nothing lost, nothing doubled."""
        return not (self.lost or self.doubled or self.strays)


def verdict_of(status: Mapping[str, Any], offered: int) -> Verdict:
    """Return the verdict from the emulator's status; a request that never reached the chain is lost too."""
    emitted, answered = int(status["emitted"]), int(status["answered"])
    return Verdict(emitted, answered, max(offered, emitted) - answered, status["doubled"], status["strays"])


@attrs.frozen
class Diary:
    """What was done, in the order in which it was."""

    happened: list[Happening] = attrs.field(factory=list)

    def note(self, name: str) -> None:
        """Note what is being done now."""
        self.happened.append(Happening(time.time(), name))


async def play(pair: Pair, seconds: float, note: Callable[[str], None]) -> None:
    """Do every disturbance at its time, and note it."""
    begun = trio.current_time()
    outage = min(LONGEST_OUTAGE, seconds / 30)
    for disturbance in DISTURBANCES:
        await trio.sleep_until(begun + disturbance.at * seconds)
        note(disturbance.name)
        await _post(pair, disturbance.paths)
        if disturbance.back:
            await trio.sleep(outage)
            await _post(pair, disturbance.back)
            note(f"{disturbance.name} no more")


def in_order(happened: Sequence[Happening], samples: Sequence[Sample]) -> list[Happening]:
    """Return what was done and what else happened, in its order: the machine may have stood still."""
    still = [Happening(at, f"machine still {seconds:.0f} s") for at, seconds in stalled_alerts(samples)]
    return sorted([*happened, *still], key=lambda one: one.at)


async def _post(pair: Pair, paths: Sequence[str]) -> None:
    for path in paths:
        await pair.dependencies.post(path)


async def tell(pair: Pair, period: float) -> Never:
    """Print how far it is, now and then."""
    begun = trio.current_time()
    while True:
        await trio.sleep(period)
        status, sample = await pair.dependencies.get("/status"), pair.samples["connector"][-1]
        print(progress(status, sample.resident, sample.descriptors, trio.current_time() - begun), flush=True)


def progress(status: Mapping[str, Any], resident: int, descriptors: int, seconds: float) -> str:
    """Return a line on how far it is."""
    opened = status["emitted"] - status["answered"]
    counts = f"{status['emitted']:7} emitted  {opened:5} open  {status['doubled']} doubled"
    return f"{seconds:6.0f} s  {counts}  {resident / 2**20:6.0f} MB  {descriptors:4} fds"


async def soak(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the load with its disturbances and return everything that was seen."""
    diary = Diary()
    opened = open_pair(recipe_of(arguments), folder, arguments.size, arguments.computing, *HISTORY)
    async with opened as pair:
        warm = await pair.dependencies.get("/status")
        done = await _offer(arguments, pair, diary)
        status = await pair.dependencies.get("/status")
        logged = {one.name: signs_of(one.text()) for one in pair.connectors}
    return {
        **came_to(status, warm["emitted"], done, arguments.rate),
        "happened": [attrs.asdict(one) for one in in_order(diary.happened, pair.samples["machine"])],
        "logged": logged,
        "samples": columns_of(pair.samples),
        "requests": [[row[VISIBLE], row[ANSWERED]] for row in done["rows"]],
    }


def came_to(status: Mapping[str, Any], warm: int, done: Mapping[str, Any], rate: float) -> dict[str, Any]:
    """Return verdict and figures of a load after so many ``warm`` requests, from what the emulator says at its end."""
    found = verdict_of(status, warm + done["offered"])
    figures = outcome(done["rows"], done["offered"], rate)
    return {"verdict": {**attrs.asdict(found), "well": found.well}, "outcome": attrs.asdict(figures)}


async def _offer(arguments: argparse.Namespace, pair: Pair, diary: Diary) -> Any:
    """Offer the load amid everything that is done meanwhile; return what the emulator says of it."""
    seconds = arguments.minutes * 60
    load = {"rate": arguments.rate, "seconds": seconds, "reply_timeout": LATE}
    tasks: list[Callable[[], Awaitable[object]]] = [
        partial(pair.watch, 1.0),
        partial(tell, pair, seconds / 30),
        partial(play, pair, seconds, diary.note),
    ]
    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(task)
        done = await pair.dependencies.post("/load", load)
        nursery.cancel_scope.cancel()
    return done


SIGNS = ("Traceback", "starting anew")
"""What a log should be read for: errors that nobody caught, and connectors that began anew in their process."""


def signs_of(text: str) -> dict[str, int]:
    """Return how often a log has each sign."""
    return {sign: text.count(sign) for sign in SIGNS}


def parser() -> argparse.ArgumentParser:
    """Return the arguments."""
    made = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    add = made.add_argument
    add("--minutes", type=float, default=30.0, metavar="M", help="of load (30)")
    add("--rate", type=float, default=50.0, metavar="R", help="requests per second (50)")
    add("--size", type=int, default=1024, metavar="BYTES", help="of each ciphertext (1024)")
    add_connector(made, Plan().computing)
    add("--keep", type=Path, metavar="FOLDER", help="where the logs of all processes are kept")
    add("--out", type=Path, default=Path("bench-results-soak.json"), metavar="FILE", help="the JSON file")
    return made


def summary(found: Mapping[str, Any]) -> list[str]:
    """Return the end as text."""
    samples = found["samples"]
    still = [one["name"] for one in found["happened"] if one["name"].startswith("machine")]
    signs = [
        f"{name} has logged {number} times: {sign}"
        for name, logged in found["logged"].items()
        for sign, number in logged.items()
        if number
    ]
    return [
        counts_of(found["verdict"]),
        *still,
        times_of(found["outcome"]["whole"]),
        *(_memory(side, samples[side]) for side in ("connector", "database") if side in samples),
        _cpu(samples, found["verdict"]["answered"]),
        *signs,
        judgement_of(found["verdict"]),
    ]


def counts_of(verdict: Mapping[str, Any]) -> str:
    """Return a verdict's counts as text."""
    return ", ".join(
        f"{name} {verdict[name]}" for name in ("emitted", "answered", "lost", "doubled", "strays")
    )


def times_of(whole: Mapping[str, float | None]) -> str:
    """Return how long replies took as text."""
    times = ", ".join(f"{name} {milliseconds(whole[name])} ms" for name in ("p50", "p99", "most"))
    return f"from the event's block to the reply's: {times}"


def judgement_of(verdict: Mapping[str, Any]) -> str:
    """Return a verdict in a sentence."""
    return "nothing lost, nothing doubled" if verdict["well"] else "SOMETHING WAS LOST OR DOUBLED"


def _memory(side: str, columns: Mapping[str, Sequence[int]]) -> str:
    memory = [round(resident / 2**20) for resident in columns["resident"]]
    return f"memory of the {side} {_range(memory)} MB, descriptors {_range(columns['descriptors'])}"


def _cpu(samples: Mapping[str, Mapping[str, Sequence[float]]], answered: int) -> str:
    """Return the CPU time of each side for an answered request."""
    spent = {side: columns["cpu"][-1] - columns["cpu"][0] for side, columns in samples.items()}
    shares = ", ".join(f"{side} {1000 * cpu / max(1, answered):.1f} ms" for side, cpu in spent.items())
    return f"CPU for each answered request: {shares}"


def _range(values: Sequence[int]) -> str:
    return f"{min(values)} to {max(values)}, at the end {values[-1]}"


def main() -> None:
    """Run, write and judge."""
    arguments = parser().parse_args()
    with kept("kmsconn-soak-", arguments.keep) as folder:
        found = trio.run(soak, arguments, folder)
    write_report(arguments.out, arguments, PARAMETERS, {"connector": connector_name(arguments), **found})
    print("\n".join(summary(found)))


if __name__ == "__main__":
    main()
