"""What is told at the end of a run, on however many processes: the worlds that were played, the peers that were not there."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cache
from inspect import isasyncgenfunction, iscoroutinefunction
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import settings

from kmsconn.testing.world import memory_backed
from tests import failures, reports, sampling
from tests.faults.tally import TALLY
from tests.real import peer_cases, peers

# How long a case takes is for benchmarks to say: on a busy machine a deadline turns what is right red.
# Every run draws the same examples: what one run shows, the next one shows again.
settings.register_profile("untimed", deadline=None, derandomize=True, max_examples=sampling.examples())
settings.load_profile("untimed")

# A module of which jsonschema would make 38 parsers at its import, 2.5 s in each worker: no schema here knows an IRI.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

TESTS = Path(__file__).parent
ON_DISK = {"architecture", "e2e", "real"}
IN_REAL_TIME = {"e2e", "real"}
RECURSION_LIMIT = sys.getrecursionlimit()
_OTHERS: list[list[str]] = []
_COLLECTED: list[pytest.Item] = []


def _lines() -> list[str]:
    if not TALLY.worlds:
        return []
    return [
        f"{TALLY.worlds} worlds, {TALLY.seconds / 3600:.1f} virtual hours",
        *(f"{title}: {_listed(counts)}" for title, counts in TALLY.tables()),
    ]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "nothing"


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder in memory where the machine has one: in virtual time nothing is won by waiting for a disk."""
    if request.path.relative_to(TESTS).parts[0] in ON_DISK:
        yield request.getfixturevalue("tmp_path_factory").mktemp(
            request.node.originalname[:30], numbered=True
        )
        return
    with memory_backed() as folder:
        yield folder


def in_virtual_time(*args: Any, clock: trio.abc.Clock | None = None, **options: Any) -> Any:
    """Run a test that waits for nothing: the clock jumps to the next deadline as soon as every task waits."""
    return trio.run(*args, clock=clock or trio.testing.MockClock(autojump_threshold=0), **options)


def pytest_configure(config: pytest.Config) -> None:
    reports.leave_out_the_rest(config)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Play each test with the interpreter's own recursion limit: libraries that only tests import raise it, and it guards the C stack."""
    sys.setrecursionlimit(RECURSION_LIMIT)
    failures.PLAYED.note(item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a test that failed what its traceback leaves out."""
    report = yield
    if report.failed and call.excinfo is not None:
        failures.explain(report, call.excinfo.value)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["worlds"] = _lines()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for garbage in what the tests make, and seldom, not in the thousands of tests: a pass took a quarter of a second."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000)
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what another turn plays, unless it was asked for by name, and what needs a peer that is not there."""
    for item in items:
        _refuse_what_would_not_run(item)
        if iscoroutinefunction(getattr(item, "obj", None)) and not _waits(item.path):
            item.add_marker(pytest.mark.trio(run=in_virtual_time), append=False)
    if not any("::" in arg for arg in config.args):
        later = sampling.left_out(items)
        items[:] = [item for item in items if item not in later]
        config.hook.pytest_deselected(items=[*later])
    if hasattr(config, "workerinput"):
        items.sort(key=_by_turns(items))
    _COLLECTED[:] = items
    peer_cases.note(items)
    peer_cases.leave_out(items, peers.left_out())


def _by_turns(items: Sequence[pytest.Item]) -> Callable[[pytest.Item], int]:
    """Return what sorts the files of those that wait for processes among those that compute: one by one, as long as there are both."""
    seen: Counter[bool] = Counter()
    turns: dict[Path, int] = {}
    for item in items:
        if item.path not in turns:
            waits = _waits(item.path)
            seen[waits] += 1
            turns[item.path] = 2 * seen[waits] - waits
    return lambda item: turns[item.path]


@cache
def _waits(path: Path) -> bool:
    """Say whether tests wait for sockets and processes."""
    return path.relative_to(TESTS).parts[0] in IN_REAL_TIME


def _refuse_what_would_not_run(item: pytest.Item) -> None:
    """pytest-trio runs an asynchronous fixture only for a test that has it among its arguments."""
    info = item._fixtureinfo  # type: ignore[attr-defined]
    for name in {name for mark in item.iter_markers("usefixtures") for name in mark.args} - {*info.argnames}:
        for definition in info.name2fixturedefs.get(name, ())[-1:]:
            if iscoroutinefunction(definition.func) or isasyncgenfunction(definition.func):
                raise pytest.UsageError(
                    f"{item.nodeid} uses {name} by a mark: make it an argument, else it does not run"
                )


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _OTHERS.append(getattr(node, "workeroutput", {}).get("worlds", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for heading, *lines in filter(None, (_lines(), *_OTHERS)):
        terminalreporter.section(heading)
        for line in lines:
            terminalreporter.write_line(line)
    _tell_met_peers(terminalreporter)
    _tell_missing_peers(terminalreporter)


def _tell_met_peers(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests passed against each peer, or how many there are where they are only collected."""
    collected = terminalreporter.config.getoption("collectonly")
    passed = [report for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    met = peer_cases.count(_COLLECTED) if collected else peer_cases.met(passed)
    if met:
        terminalreporter.write_line(peer_cases.line(met))


def _tell_missing_peers(terminalreporter: pytest.TerminalReporter) -> None:
    """Name each peer whose tests were left out, with their number."""
    skipped = Counter(
        value
        for report in terminalreporter.stats.get("skipped", [])
        for name, value in report.user_properties
        if name == peer_cases.PROPERTY and value in peers.left_out()
    )
    for name, tests in sorted(skipped.items()):
        line = f"NOT PROVED against {peers.reason([name])} ({tests} tests left out)"
        terminalreporter.write_line(line, red=True, bold=True)
