"""Ends a connector, or one stage of it, at its k-th task step; makes a run of Trio a function of a seed, and one that hangs talkative.

Trio draws the order of tasks that are ready together. Its own plugin for Hypothesis lets that be drawn reproducibly; the same two
names of Trio are used here, so that a world replays outside Hypothesis too.
"""

from __future__ import annotations

import signal
import sys
import types
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum

import trio
import trio._core._run as scheduler

_OURS: ContextVar[Steps | None] = ContextVar("kmsconn steps", default=None)


class Ending(StrEnum):
    """How a process ends."""

    KILL = "kill"
    """As under ``kill -9``: from then on nothing reaches the outside."""
    CANCEL = "cancel"
    """The scope around ``open_connector`` is cancelled, and clean-up runs."""
    DRAIN = "drain"
    """``Connector.drain`` is called."""


class Steps(trio.abc.Instrument):
    """Counts the task steps of one connector and calls ``act`` when its step number ``at`` is about to be taken.

    Every checkpoint that waits, and every return from one, lies between two steps. Tasks belong to the connector when they descend
    from the one that called ``mark``; those of the dependencies do not. ``act`` runs inside the scheduler: it may cancel scopes and set
    events, and must not raise.
    """

    def __init__(self, at: int = 0, act: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        self.fired: float | None = None
        """When ``act`` was called; None: it was not."""
        self.alive: set[trio.lowlevel.Task] = set()
        """The connector's tasks that have not ended, the marked one aside."""
        self._at, self._act = at, act

    def mark(self) -> None:
        """Let the calling task, and all that it will start, be the connector's."""
        _OURS.set(self)

    def _is_ours(self, task: trio.lowlevel.Task) -> bool:
        return task.context.get(_OURS) is self

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Note a task of the connector."""
        if self._is_ours(task):
            self.alive.add(task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Note its end."""
        self.alive.discard(task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count, and act at the chosen step."""
        if self._is_ours(task):
            self.count += 1
            if self.count == self._at:
                self.fired = trio.current_time()
                self._act()


async def cancel_everywhere(
    stage: Callable[[], Awaitable[object]], after: Callable[[], Awaitable[object]]
) -> int:
    """Run ``stage`` again and again, cancelled at its first step, its second, and so on; call ``after`` each time. Return the steps.

    The last run is the one that comes to its end. Steps of the tasks that the stage starts count too. ``after`` looks whether the
    state is whole; it may repeat the stage. Raises what either raises.
    """
    at = 0
    while True:
        at += 1
        with trio.CancelScope() as scope:
            steps = Steps(at, scope.cancel)
            await run_marked(stage, steps)
        await after()
        if steps.fired is None:
            return at - 1


async def run_marked(stage: Callable[[], Awaitable[object]], steps: Steps) -> None:
    """Run a stage in a task of its own, with its steps counted."""

    async def marked() -> None:
        steps.mark()
        await stage()

    trio.lowlevel.add_instrument(steps)
    try:
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - a task of its own, whose context is marked
            nursery.start_soon(marked)
    finally:
        trio.lowlevel.remove_instrument(steps)


@contextmanager
def seeded_scheduler(seed: int) -> Iterator[None]:
    """Let Trio's order of ready tasks follow from ``seed`` while the block lasts."""
    random, before = scheduler._r, scheduler._r.getstate()  # noqa: SLF001 - see the module
    deterministic = scheduler._ALLOW_DETERMINISTIC_SCHEDULING  # noqa: SLF001
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # noqa: SLF001
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = deterministic  # type: ignore[misc]  # noqa: SLF001


class Hung(BaseException):
    """A world that made no end; not an Exception, so that nothing in it handles it."""


@contextmanager
def watchdog(seconds: int) -> Iterator[None]:
    """Print the task tree and raise Hung when the block takes more than ``seconds`` of real time.

    Under an autojump clock a hang is an endless run and not a sleep. Main thread only.
    """

    def bark(_number: int, _frame: types.FrameType | None) -> None:
        sys.stderr.write(f"no end after {seconds} s; the tasks:\n{task_tree()}\n")
        raise Hung

    before = signal.signal(signal.SIGALRM, bark)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def task_tree() -> str:
    """Return the tasks of the running Trio program, indented, each with the line where it waits."""
    try:
        root = trio.lowlevel.current_root_task()
    except RuntimeError:
        root = None
    return "no task" if root is None else "\n".join(_lines(root, 0))


def _lines(task: trio.lowlevel.Task, depth: int) -> Iterator[str]:
    places = [(frame.f_code.co_qualname, number) for frame, number in task.iter_await_frames()]
    ours = [f"{name}:{line}" for name, line in places if not name.startswith("_")] or ["?"]
    yield "  " * depth + f"{task.name.rsplit('.', 1)[-1]}: {' < '.join(reversed(ours[-4:]))}"
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=lambda one: one.name):
            yield from _lines(child, depth + 1)
