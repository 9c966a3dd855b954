"""One connector under loads: offers them, samples the processes meanwhile, and returns what was seen. Prints nothing."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any, Never

import attrs
import trio

from bench.cluster import Cluster, find_programs, open_cluster
from bench.connector import ConnectorProcess, Recipe, of_process, open_connectors
from bench.figures import ANSWERED, Outcome, outcome, span
from bench.proc import Sample, look, look_at_machine
from bench.processes import EmulatedDependencies, open_dependencies, tail
from bench.series import stalled_alerts
from bench.yardstick import machine_ms
from kmsconn.model.requests import FHEVM

WARM_UP = {"rate": 10, "seconds": 2, "reply_timeout": 60}
IDLE = 3.0  # seconds in which nothing is offered
PERIOD = 0.25  # seconds between samples
LOOKS_FOR_A_YARDSTICK = 4  # a few milliseconds each second
SETTLING = 2.0  # seconds in which work after the last reply (finality, journal) may end before the next load
CIPHERTEXTS = 1.6  # of a request, as the emulator draws them
LARGEST_LOAD = 4 << 30  # bytes of ciphertexts of one load: all are made beforehand and held by the emulator
LAST_REPLY_TIMEOUT = 20.0  # seconds after a load in which its last replies may be included


@attrs.frozen
class Usage:
    """What a process tree used between two samples: CPU seconds, and their share of the time."""

    cpu: float
    share: float
    resident: int
    descriptors: int


@attrs.frozen
class Busiest:
    """The process that used most of a core: its side, and the share. Near 1 it can do no more, however idle other cores are."""

    side: str
    share: float


@attrs.frozen
class Case:
    """One load: its parameters, what became of it, and what both sides used."""

    size: int
    outcome: Outcome
    cpu_ms: float | None
    """CPU milliseconds of the connector for each answered request."""
    connector: Usage
    emulator: Usage
    machine: Usage
    """All cores and everybody on them; a share of 2 is two cores."""
    journal_bytes: int
    stalled: float = 0.0
    """Seconds for which the machine itself stood still meanwhile: then the times mean nothing."""
    database: Usage | None = None
    """The PostgreSQL server, where the journal is there."""
    busiest: Busiest | None = None
    machine_ms: float | None = None
    """CPU milliseconds of a fixed piece of work meanwhile, see ``bench.yardstick``."""

    @property
    def others(self) -> float:
        """What everybody else used meanwhile, in cores: much of it makes the times of both sides worthless."""
        database = 0.0 if self.database is None else self.database.share
        return max(0.0, self.machine.share - self.connector.share - self.emulator.share - database)

    @property
    def database_ms(self) -> float | None:
        """CPU milliseconds of the database for each answered request."""
        if self.database is None or not self.outcome.answered:
            return None
        return 1000 * self.database.cpu / self.outcome.answered

    @property
    def emulator_ms(self) -> float | None:
        """CPU milliseconds of the emulator for each answered request."""
        return 1000 * self.emulator.cpu / self.outcome.answered if self.outcome.answered else None

    @property
    def relative(self) -> float | None:
        """CPU of connector and database for each request, in pieces of a fixed work: it depends little on machine and emulator."""
        if self.cpu_ms is None or not self.machine_ms:
            return None
        return (self.cpu_ms + (self.database_ms or 0.0)) / self.machine_ms

    @property
    def ratio(self) -> float | None:
        """CPU of connector and database for each second of this emulator's: on another machine both sides change alike."""
        used = self.connector.cpu + (0.0 if self.database is None else self.database.cpu)
        return used / self.emulator.cpu if self.emulator.cpu else None


@attrs.define
class Pair:
    """Emulated dependencies and a connector, perhaps of several processes, that has shown that it works."""

    dependencies: EmulatedDependencies
    connectors: Sequence[ConnectorProcess]
    journal: Path
    cluster: Cluster | None = None
    samples: dict[str, list[Sample]] = attrs.field(factory=lambda: defaultdict(list))
    yardsticks: list[tuple[float, float]] = attrs.field(factory=list)
    """When the fixed work was done (Unix seconds), and its CPU milliseconds."""

    async def watch(self, period: float) -> Never:
        """Sample all processes until cancelled, and the machine by a fixed piece of work now and then."""
        while True:
            self.look()
            if len(self.samples["machine"]) % LOOKS_FOR_A_YARDSTICK == 1:
                self.yardsticks.append((time.time(), machine_ms()))
            await trio.sleep(period)

    def look(self) -> None:
        """Sample all processes now."""
        sides = {"connector": [pid for one in self.connectors if (pid := one.pid) is not None]}
        sides["emulator"] = [self.dependencies.pid]
        if self.cluster is not None:
            sides["database"] = [self.cluster.pid]
        for side, sample in zip(sides, look(*sides.values()), strict=True):
            self.samples[side].append(sample)
        self.samples["machine"].append(look_at_machine())


@asynccontextmanager
async def open_pair(
    recipe: Recipe, folder: Path, size: int, computing: float, *more: str, written: str = ""
) -> AsyncIterator[Pair]:
    """Start both and have a few requests answered. Raises RuntimeError when the connector does not answer them.

    ``more`` are arguments of ``kmsconn emulate``; ``written`` are options that the connector has beside those that the emulator wrote.
    """
    arguments = ("--size", str(size), "--computing", str(computing), *more)
    async with open_dependencies(folder, *arguments) as dependencies:
        config = dependencies.config
        config.write_text(written + config.read_text(encoding="utf-8"), encoding="utf-8")
        async with _open_pair(recipe, folder, dependencies) as pair:
            yield pair


@asynccontextmanager
async def _open_pair(recipe: Recipe, folder: Path, dependencies: EmulatedDependencies) -> AsyncIterator[Pair]:
    with _cluster(recipe) as cluster:
        url = None if cluster is None else cluster.url(tcp=True)
        configs = [of_process(dependencies.config, number, url) for number in range(recipe.processes)]
        async with open_connectors(recipe, configs) as connectors:
            done = await dependencies.post("/load", WARM_UP)
            if not done["rows"] or any(row[ANSWERED] is None for row in done["rows"]):
                raise RuntimeError(f"the first requests were not answered:\n{ends_of_logs(folder)}")
            yield Pair(dependencies, connectors, folder / "connector.emulated.db", cluster)


def ends_of_logs(folder: Path) -> str:
    """Return the last lines that each process of the connector has written."""
    return "\n".join(tail(log) for log in sorted(folder.glob("connector*.log")))


def _cluster(recipe: Recipe) -> AbstractContextManager[Cluster | None]:
    return open_cluster(find_programs()) if recipe.postgresql else nullcontext()


async def rest(pair: Pair) -> dict[str, Usage]:
    """Offer nothing for a while, and return what was used all the same."""
    await trio.sleep(SETTLING)
    pair.look()
    await trio.sleep(IDLE)
    pair.look()
    return {side: usage(*samples[-2:]) for side, samples in pair.samples.items()}


async def offer(pair: Pair, size: int, rate: float, seconds: float, forms: Sequence[str] = ()) -> Case:
    """Offer one load, of these ``forms`` in turn (none named: all, drawn by chance), and return what became of it."""
    await trio.sleep(SETTLING)
    wanted = {
        "rate": rate,
        "seconds": seconds,
        "forms": list(forms),
        "prepared": True,
        "reply_timeout": LAST_REPLY_TIMEOUT,
    }
    done = await _while_watching(pair, lambda: pair.dependencies.post("/load", wanted))
    found = outcome(done["rows"], done["offered"], rate)
    moments = span(done["rows"])
    used = {side: usage(*between(samples, *moments)) for side, samples in pair.samples.items()}
    cpu_ms = 1000 * used["connector"].cpu / found.answered if found.answered else None
    still = sum(seconds for at, seconds in stalled_alerts(pair.samples["machine"]) if at >= moments[0])
    return Case(
        size,
        found,
        cpu_ms,
        **used,
        journal_bytes=journal_bytes(pair.journal),
        stalled=still,
        busiest=busiest(pair.samples, *moments),
        machine_ms=typical(pair.yardsticks, *moments),
    )


async def offer_undisturbed(pair: Pair, size: int, rate: float, plan: Plan) -> Case:
    """Offer a load, and once more when the machine stood still meanwhile; tell of both."""
    case = await offer(pair, size, rate, plan.seconds, plan.forms)
    plan.told(case)
    if case.stalled:
        case = await offer(pair, size, rate, plan.seconds, plan.forms)
        plan.told(case)
    return case


async def _while_watching(pair: Pair, work: Callable[[], Awaitable[Any]]) -> Any:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.watch, PERIOD)
        done = await work()
        nursery.cancel_scope.cancel()
    pair.look()
    return done


def between(samples: Sequence[Sample], start: float, end: float) -> tuple[Sample, Sample]:
    """Return the last sample before a span and the first after it; the outermost where there is none."""
    before = [sample for sample in samples if sample.at <= start] or [samples[0]]
    after = [sample for sample in samples if sample.at >= end] or [samples[-1]]
    return before[-1], after[0]


def busiest(samples: Mapping[str, Sequence[Sample]], start: float, end: float) -> Busiest | None:
    """Return the process that used most between two moments, None of none."""
    found = [
        Busiest(side, (cpu - before.each.get(pid, 0.0)) / (after.at - before.at))
        for side, taken in samples.items()
        for before, after in [between(taken, start, end)]
        if after.at > before.at
        for pid, cpu in after.each.items()
    ]
    return max(found, key=lambda one: one.share, default=None)


def typical(yardsticks: Sequence[tuple[float, float]], start: float, end: float) -> float | None:
    """Return the median of the fixed work's milliseconds between two moments, None of none."""
    taken = [ms for at, ms in yardsticks if start <= at <= end]
    return median(taken) if taken else None


def usage(before: Sample, after: Sample) -> Usage:
    """Return what was used between two samples; memory and descriptors are those at the end."""
    cpu, seconds = after.cpu - before.cpu, after.at - before.at
    return Usage(cpu, cpu / seconds if seconds else 0.0, after.resident, after.descriptors)


def journal_bytes(journal: Path) -> int:
    """Return the bytes of a journal's files."""
    return sum(path.stat().st_size for path in journal.parent.glob(f"{journal.name}*"))


@attrs.frozen
class Climb:
    """One connector under ever higher loads: the cases, and the samples taken meanwhile."""

    idle: Mapping[str, Usage]
    """What each side used while nothing was offered."""
    cases: list[Case]
    samples: Mapping[str, Sequence[Sample]]


async def climb(recipe: Recipe, folder: Path, size: int, rates: Sequence[float], plan: Plan) -> Climb:
    """Offer ever more to one connector, until it does not keep up or the ciphertexts would not fit in memory."""
    cases: list[Case] = []
    async with open_pair(recipe, folder, size, plan.computing, "--profile", plan.profile) as pair:
        idle = await rest(pair)
        for rate in rates:
            if rate * plan.seconds * CIPHERTEXTS * size > LARGEST_LOAD:
                break
            cases.append(await offer_undisturbed(pair, size, rate, plan))
            if not cases[-1].outcome.sustained:
                break
    return Climb(idle, cases, pair.samples)


@attrs.frozen
class Plan:
    """What is offered: seconds for each load, the Core's time for an answer, of which generation and forms, and who is told of each."""

    seconds: float = 10.0
    computing: float = 0.01
    profile: str = FHEVM
    forms: tuple[str, ...] = ()
    told: Callable[[Case], None] = lambda _: None
