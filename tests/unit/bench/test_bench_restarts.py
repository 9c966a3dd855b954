"""Processes are restarted in turn, and their leases followed until another one holds them. Nothing is started."""

from __future__ import annotations

import signal
from pathlib import Path

import trio

from bench.connector import ConnectorProcess, Recipe
from bench.leases import LONGEST, HandOver, Held, follow, held_by
from bench.restarts import Restarter, told


class Process(ConnectorProcess):
    """In place of a process: takes two seconds to end, and notes when."""

    status = 0

    async def start(self) -> None:
        EVENTS.append((trio.current_time() - BEGUN[0], f"{self.name} starts"))

    async def end(self, number: signal.Signals) -> int | None:
        assert number == signal.SIGTERM
        await trio.sleep(2)
        EVENTS.append((trio.current_time() - BEGUN[0], f"{self.name} ends"))
        HELD.clear()
        HELD.update(upkeep=(3, "others"))
        return self.status


EVENTS: list[tuple[float, str]] = []
BEGUN: list[float] = [0.0]
HELD: dict[str, tuple[int, str]] = {}


async def ask() -> Held:
    await trio.lowlevel.checkpoint()
    return dict(HELD)


def restarter(*names: str, status: int = 0) -> Restarter:
    EVENTS.clear()
    HELD.clear()
    BEGUN[0] = trio.current_time()
    processes = [Process(Recipe(), Path(f"{name}.toml")) for name in names]
    for one in processes:
        one.status = status
    return Restarter(processes, ask, lambda name: EVENTS.append((trio.current_time() - BEGUN[0], name)))


async def test_each_is_restarted_in_turn_once_it_is_gone() -> None:
    await restarter("a", "b").run(10.0, 40.0)
    assert EVENTS == [
        (10, "a restarts"), (12, "a ends"), (12, "a starts"),
        (20, "b restarts"), (22, "b ends"), (22, "b starts"),
        (30, "a restarts"), (32, "a ends"), (32, "a starts"),
    ]  # fmt: skip


async def test_the_time_of_a_hand_over_is_from_the_signal_to_the_next_holder() -> None:
    made = restarter("a", "b")
    HELD.update(upkeep=(1, "a"), audit=(2, "b"))
    await made.restart(made.connectors[0])
    (found,) = made.handed_over
    assert (found.lease, round(found.seconds, 1), made.left) == ("upkeep", 2.0, 0)
    counted, times = told(made.found())
    assert counted == "restarts: a 1; each ended with status 0"
    assert times.startswith("hand-over: 1 leases, p50 2")


async def test_a_lease_that_nobody_takes_is_told() -> None:
    made = restarter("a", "b")
    HELD.update({"reads 1": (1, "a")})
    await made.restart(made.connectors[0])
    assert told(made.found())[1:] == ["1 leases WENT OVER TO NOBODY in time"]


async def test_an_end_with_another_status_is_told() -> None:
    made = restarter("a", status=-9)
    await made.restart(made.connectors[0])
    assert told(made.found()) == ["restarts: a 1; ENDED ALSO WITH STATUS -9"]


def test_of_no_restarts_nothing_is_told() -> None:
    assert told({"statuses": {}, "handed_over": [], "left": 0}) == []


async def test_leases_that_are_kept_are_no_hand_over() -> None:
    restarter()
    HELD.update(upkeep=(1, "a"), audit=(2, "b"))
    found: list[HandOver] = []
    begun = trio.current_time()
    assert await follow(ask, "cut", held_by(HELD, "a"), found, kept_after=5.0) == 0
    assert (found, round(trio.current_time() - begun)) == ([], 5)


async def test_a_hand_over_is_waited_for_so_long_and_no_longer() -> None:
    restarter()
    begun = trio.current_time()
    assert await follow(ask, "term", {"upkeep": 1}, []) == 1
    assert trio.current_time() - begun == LONGEST
