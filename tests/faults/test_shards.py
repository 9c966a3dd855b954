"""Several Cores that share the requests by id mod n: whatever one of them does, those of the others wait for nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio

from kmsconn.config.working import Pools
from kmsconn.emulator.core import PUBLIC
from kmsconn.emulator.core_faults import CoreFault, FaultyCore, HangingCore, SpoiledCore
from kmsconn.emulator.core_jobs import CAPACITY, RATE_LIMIT
from kmsconn.model.events import AlertCleared, AlertRaised
from kmsconn.testing.faults import Ask, Outage
from kmsconn.testing.world import PlanStep, World, WorldReport, run_world

pytestmark = pytest.mark.sampled

SHARDS, BAD = 4, 2
PLACES = 4
BEGIN, SECONDS = 2.5, 40.0
ROUNDS, EACH = 10, 8
"""Twenty requests come for the bad shard: five times as many as the pool has places."""
GOOD = [Ask(2.0 + second, "public", EACH) for second in range(ROUNDS)]
BLOCKS = 2
"""What the 99th of 100 good requests may take; alone they take as many."""


@attrs.frozen
class Changed:
    """One shard of the Core is changed, and after ``seconds`` it is as it was."""

    at: float
    change: Callable[[FaultyCore[Any]], Callable[[], None]]
    seconds: float = SECONDS
    shard: int = BAD

    async def play(self, world: World) -> None:
        """Change it, and back; a plan ends when all that it holds has ended."""
        back = self.change(world.dependencies.cores[self.shard])
        await trio.sleep(self.seconds)
        back()


def always(fault: CoreFault, method: str | None = None) -> Callable[[FaultyCore[Any]], Callable[[], None]]:
    def change(core: FaultyCore[Any]) -> Callable[[], None]:
        core.strike(fault, method)
        return core.injections.clear

    return change


def full_table(core: FaultyCore[Any]) -> Callable[[], None]:
    table = core.core.memory.table(PUBLIC.start)
    table.capacity = 0

    def back() -> None:
        table.capacity = CAPACITY

    return back


def no_rate(core: FaultyCore[Any]) -> Callable[[], None]:
    core.core.memory.rate_limit = 0

    def back() -> None:
        core.core.memory.rate_limit = RATE_LIMIT

    return back


def restarted(core: FaultyCore[Any]) -> Callable[[], None]:
    core.core.restart()
    return lambda: None


def played(*steps: PlanStep, **options: object) -> WorldReport:
    usual = {"shards": SHARDS, "pools": Pools(PLACES, PLACES), "settle_time": 400.0}
    report = run_world([*GOOD, *steps], seed=4, **(usual | options))
    report.check()
    assert len(report.ground_truth.answered) == ROUNDS * EACH
    return report


def blocks_of(report: WorldReport, shard: int) -> list[int]:
    """Return how many blocks the requests of a shard took, the shortest first."""
    return sorted(
        blocks for identifier, blocks in report.ground_truth.blocks.items() if identifier % SHARDS == shard
    )


def p99_of_the_others(report: WorldReport, *bad: int) -> int:
    blocks = sorted(
        each for shard in range(SHARDS) if shard not in (bad or (BAD,)) for each in blocks_of(report, shard)
    )
    return blocks[int(len(blocks) * 0.99)]


def told(report: WorldReport) -> list[tuple[str, str]]:
    """Return what was told of the Core, in order: the name of the event, and of whom."""
    return [
        (type(event).__name__, event.dependency)
        for _, event in report.log
        if isinstance(event, AlertRaised | AlertCleared) and event.dependency.startswith("core")
    ]


def test_alone_every_shard_has_its_part_and_none_waits() -> None:
    report = played()
    for shard in range(SHARDS):
        blocks = blocks_of(report, shard)
        assert len(blocks) == ROUNDS * EACH // SHARDS
        assert blocks[-1] <= BLOCKS


@pytest.mark.parametrize("how", ["refuse", "unreachable", "mute", "lost"])
def test_one_shard_gone_slows_no_request_of_the_others(how: str) -> None:
    report = played(Outage(BEGIN, f"core{BAD}", how, SECONDS))  # type: ignore[arg-type]
    assert p99_of_the_others(report) <= BLOCKS
    assert max(blocks_of(report, BAD)) > SECONDS / 2


@pytest.mark.parametrize(
    "change",
    [
        always(HangingCore()),
        always(HangingCore(), "PublicDecrypt"),
        always(SpoiledCore(how="never ready"), "PublicDecrypt"),
    ],
    ids=["every call", "start calls", "answers"],
)
def test_one_shard_that_takes_calls_and_never_ends_them_slows_no_request_of_the_others(
    change: Callable[[FaultyCore[Any]], Callable[[], None]],
) -> None:
    """It answers pings, so nothing but time tells that it hangs. What it took for good it forgets when it restarts."""
    report = played(Changed(BEGIN, change), Changed(BEGIN + SECONDS, restarted, 0))
    assert p99_of_the_others(report) <= BLOCKS


def test_three_shards_that_hang_slow_no_request_of_the_fourth() -> None:
    hung = [Changed(BEGIN, always(HangingCore()), shard=shard) for shard in (0, 1, 3)]
    assert p99_of_the_others(played(*hung), 0, 1, 3) <= BLOCKS


def test_the_trouble_names_the_shard_and_is_over_when_it_works_again() -> None:
    """Requests of other shards that pass say nothing about this one."""
    report = played(Outage(BEGIN, f"core{BAD}", "refuse", SECONDS))
    assert {whom for _, whom in told(report)} == {f"core[{BAD}]"}
    assert [name for name, _ in told(report)].count("AlertCleared") == 1
    assert told(report)[-1][0] == "AlertCleared"


def test_a_shard_that_restarts_is_told_again_and_the_others_are_not() -> None:
    """What a Core had in work it has forgotten; each other one is asked once for each request."""
    starts: dict[int, int] = {}

    def noted(core: FaultyCore[Any]) -> Callable[[], None]:
        shard = len(starts)
        starts[shard] = 0
        return lambda: starts.update({shard: core.counts["PublicDecrypt", "OK"]})

    watched = [Changed(0.1 * (shard + 1), noted, 60.0, shard) for shard in range(SHARDS)]
    report = played(*watched, Changed(6.3, restarted, 0), computing=1.0, pools=Pools(32, 32))
    assert p99_of_the_others(report) <= BLOCKS
    requests = ROUNDS * EACH // SHARDS
    assert {shard: starts[shard] for shard in starts if shard != BAD} == dict.fromkeys({0, 1, 3}, requests)
    assert starts[BAD] > requests


def test_a_shard_whose_table_is_full_keeps_its_requests_waiting_and_nobody_else() -> None:
    """ABORTED says that there is no room: the request waits, as long as it takes."""
    report = played(Changed(BEGIN, full_table))
    assert report.faults["core: PublicDecrypt ABORTED"] > 0
    assert p99_of_the_others(report) <= BLOCKS


def test_a_shard_that_asks_for_less_is_given_less_and_nobody_else_waits() -> None:
    report = played(Changed(BEGIN, no_rate))
    assert report.faults["core: PublicDecrypt RESOURCE_EXHAUSTED"] > 0
    assert p99_of_the_others(report) <= BLOCKS


def test_ids_that_a_shard_burnt_wait_for_its_restart_and_nobody_else_waits() -> None:
    """A missing key share: NOT_FOUND, then ALREADY_EXISTS and no answer, until the Core forgets the id (5.2)."""
    burnt = Changed(BEGIN, always(SpoiledCore(how="share lost"), "PublicDecrypt"), 5.0)
    report = played(burnt, Changed(BEGIN + SECONDS, restarted, 0))
    assert report.faults["core: PublicDecrypt NOT_FOUND"] > 0
    assert p99_of_the_others(report) <= BLOCKS
