"""Makes a run of Trio a function of a seed, and a run that never ends talkative. Never part of a product's run.

Trio draws the order of tasks that are ready together. Its own plugin for Hypothesis lets that be drawn reproducibly; the same two
names of Trio are used here, so that a world replays outside Hypothesis too.
"""

from __future__ import annotations

import signal
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

import trio
import trio._core._run as scheduler


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
