"""How tasks wait: how long after a failure, for a notification, for several steps at once; and which make no progress.

Times are whatever clock the caller reads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import attrs
import trio

from kmsconn.errors import KmsconnError

_LARGEST_EXPONENT = 32  # 2**32 is beyond every cap; keeps the power small

STALLED_AFTER = 300.0
"""Seconds without a finished round after which a task is stalled: every wait inside a round has a far shorter deadline."""


@attrs.frozen
class Backoff:
    """Exponential delays in seconds with jitter: each lies between the share ``least`` and the whole of ``min(cap, first · 2ⁿ)``."""

    first: float
    cap: float
    least: float = 0.5

    def seconds(self, failures: int, random: float = 1.0) -> float:
        """Return the delay after ``failures`` earlier ones; ``random`` in [0, 1) draws the jitter, 1 none."""
        full = min(self.cap, self.first * 2.0 ** min(failures, _LARGEST_EXPONENT))
        return full * (self.least + random * (1 - self.least))


@attrs.define
class Hold:
    """Holds something back after failures, longer with each one in a row."""

    backoff: Backoff
    random: Callable[[], float]
    failures: int = 0
    until: float = float("-inf")

    def failed(self, now: float) -> None:
        """Hold back from ``now`` on."""
        self.until = now + self.backoff.seconds(self.failures, self.random())
        self.failures += 1

    def worked(self) -> None:
        """Let go."""
        self.failures, self.until = 0, float("-inf")

    def holds(self, now: float) -> bool:
        """Say whether it is too early."""
        return now < self.until


class WakeUp:
    """Notified by any number of tasks, waited for by one."""

    def __init__(self) -> None:
        self._notified = trio.Event()
        self._rest = trio.CancelScope()
        self._soonest = 0.0
        self.told = False
        """Something outside is new, since this was last set to False."""
        self.rests = False
        """The reader has no use for a new head alone."""

    def notify(self, _push: object = None) -> None:
        """Wake the reader, now or at its next wait; what was pushed does not matter."""
        self.told = True
        self.go_on()

    def head_came(self) -> None:
        """Wake the reader for a new head, unless it rests; then it is told when it wakes."""
        self.told = True
        if not self.rests:
            self.go_on()

    def go_on(self) -> None:
        """Wake the reader likewise, for what is new in this process: what it knows of the outside still counts."""
        if not self._notified.is_set():
            self._notified.set()
            self._rest.deadline = self._soonest

    async def wait(self, *, anew: bool = False) -> None:
        """Return once it was notified since the last wait; ``anew``: from now on, since what it was notified of is done.

        Cancellation: a notification is not lost.
        """
        if anew:
            self._notified = trio.Event()
        if not self._notified.is_set():
            await self._notified.wait()
        self._notified = trio.Event()

    async def rest(self, soonest: float, latest: float) -> bool:
        """Wait until ``latest``, or until it was notified since the last wait, then ``soonest`` at the earliest; say whether it was.

        A notification moves the deadline: a timer for ``soonest`` would wake the reader for nothing.
        Cancellation: a notification is not lost.
        """
        self._soonest = soonest
        with trio.CancelScope(deadline=soonest if self._notified.is_set() else latest) as self._rest:
            await trio.sleep_forever()
        notified = self._notified.is_set()
        if notified:
            self._notified = trio.Event()
        return notified


@attrs.frozen
class StalledTask:
    """A task that has finished no round for ``seconds``; a critical alert of its ``dependency`` explains it."""

    part: str
    dependency: str
    seconds: float


@attrs.define
class Heartbeats:
    """The time of each task's last round, for ``/liveness``, which asks for a restart.

    A task that finishes a round is alive, whatever it found: alerts tell about dependencies, and no restart would help there.
    """

    now: Callable[[], float]
    _last: dict[tuple[str, str], float] = attrs.field(factory=dict)

    def part(self, name: str, dependency: str) -> Callable[[], None]:
        """Return the function that a task calls in each round; the task counts from now on."""
        self._beat((name, dependency))
        return partial(self._beat, (name, dependency))

    def _beat(self, key: tuple[str, str]) -> None:
        self._last[key] = self.now()

    def stalled(self) -> tuple[StalledTask, ...]:
        """Return the tasks that make no progress."""
        now = self.now()
        return tuple(
            StalledTask(name, dependency, now - last)
            for (name, dependency), last in self._last.items()
            if now - last > STALLED_AFTER
        )


T = TypeVar("T")


async def together(steps: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Run all steps concurrently and return their results in order.

    Raises the first KmsconnError of a step, itself and not a group: the caller asked one question. Foreign exceptions come out as
    a group. Cancellation: cancels every step.
    """
    if len(steps) <= 1:
        return [await step() for step in steps]
    results: dict[int, T] = {}
    failures: list[KmsconnError] = []

    async def run(index: int) -> None:
        try:
            results[index] = await steps[index]()
        except KmsconnError as error:
            failures.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for index in range(1, len(steps)):
            nursery.start_soon(run, index)
        await run(0)  # here: a task less
    if failures:
        raise failures[0]
    return [results[index] for index in range(len(steps))]
