"""Counts what one public decryption passes through in the package: functions, files, calls, package changes, frames, journal hops.

A connector runs among emulated dependencies, in memory and in virtual time. It answers one request to fill its caches. Then a
profile hook watches the next one, from the request transaction until the reply is included (the event ReplyIncluded). The request has
one ciphertext, on one host chain, in the public form; attestations are off, because they run beside a request and not for it. The
work that goes on in the background meanwhile, such as a read of the next block, is counted too: it is the same in each run.

The figures, over the code of ``kmsconn`` without ``emulator``, ``testing`` and ``_generated``, and without what the former two call:

- *functions*: distinct named functions that were entered; lambdas, comprehensions, class bodies and generated methods are left out;
- *files*: distinct files of these functions;
- *calls*: how often these functions were entered; a coroutine that goes on after a wait was not entered again;
- *changes of package*: successive calls whose functions stand in two packages ``kmsconn.X``, whatever the task;
- *frames from a stage to its socket*: the longest chain of frames, lambdas too, from a function of ``stages.py`` to the call of a
  stream's ``send_all``, both ends counted. Where a stage spawned a task, the chain goes on in the frames of that task. Frames of
  libraries count too, those of Trio do not;
- *hops of a journal operation*: frames of the journal from its entry to the queue of the writer, and then, in the writer's task, frames
  of this operation alone (those of its group are coroutines) until it calls the database. The figure of the commonest operation.
"""

from __future__ import annotations

import dis
import gc
import inspect
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import _lru_cache_wrapper, cache
from itertools import takewhile
from pathlib import Path
from random import Random
from types import CodeType, FrameType
from typing import TYPE_CHECKING, TypeVar

import attrs
import trio
import trio.testing

import kmsconn
from kmsconn.chain import logs
from kmsconn.config.description import AttestationMode
from kmsconn.config.settings import Settings
from kmsconn.connector.connector import open_connector
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies, Traffic
from kmsconn.journal.groups import Execution
from kmsconn.model.events import Event, ReplyIncluded
from kmsconn.testing.endings import seeded_scheduler
from kmsconn.transport.ports import Ports, offload_inline

if TYPE_CHECKING:
    from _typeshed import SupportsLenAndGetItem

PACKAGE, TRIO = Path(kmsconn.__file__).parent, Path(trio.__file__).parent
OUTSIDE = frozenset({"emulator", "testing"})
LEFT_OUT = OUTSIDE | {"_generated"}
"""Packages that are not counted: they stand for what is outside, or nobody wrote them by hand."""

EPOCH_SECONDS = 1_767_225_600.0  # the wall clock at the beginning
REPLY_TIMEOUT = 120.0  # virtual seconds in which a reply must be included
QUIET = 20  # virtual seconds, at least, from the warm-up to the request that is watched
PHASE = 0.75  # virtual seconds from a new block to that request: how many blocks are read until its reply is included depends on it


T = TypeVar("T")


class FirstChoice(Random):
    """Draws the first of several, so that users ask for one ciphertext, of the first type."""

    def choice(self, seq: SupportsLenAndGetItem[T]) -> T:
        """Return the first one."""
        return seq[0]


@attrs.frozen
class Figures:
    """What one request passed through; the module says what each figure counts."""

    functions: int
    files: int
    calls: int
    package_changes: int
    frames_to_socket: int
    journal_hops: int


@cache
def package_of(file: str) -> str | None:
    """Return the package ``X`` of ``kmsconn.X`` to which a file belongs; None where it is not counted."""
    path = Path(file)
    if not path.is_relative_to(PACKAGE):
        return None
    package = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return None if package in LEFT_OUT else package


@cache
def is_outside(file: str) -> bool:
    """Say whether a file belongs to what stands for the outside: its nodes use functions of the package too."""
    path = Path(file)
    return path.is_relative_to(PACKAGE) and path.relative_to(PACKAGE).parts[0] in OUTSIDE


@cache
def first_instruction(code: CodeType) -> int:
    """Return the offset at which a function starts to run; a coroutine that goes on does so behind it."""
    return next(one.offset for one in dis.get_instructions(code) if one.opname == "RESUME")


@attrs.define(eq=False)
class Trace:
    """A profile hook that counts calls; ``package`` says where a file belongs."""

    package: Callable[[str], str | None]
    functions: set[tuple[str, int, str]] = attrs.field(factory=set)
    calls: int = 0
    package_changes: int = 0
    frames_to_socket: int = 0
    _last: str | None = None
    _entries: Counter[int] = attrs.field(factory=Counter)
    _statements: Counter[int] = attrs.field(factory=Counter)

    def figures(self) -> Figures:
        """Return what was counted."""
        return Figures(
            functions=len(self.functions),
            files=len({file for file, _line, _name in self.functions}),
            calls=self.calls,
            package_changes=self.package_changes,
            frames_to_socket=self.frames_to_socket,
            journal_hops=commonest(self._entries) + commonest(self._statements),
        )

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count while the block lasts."""
        sys.setprofile(self.hook)
        try:
            yield
        finally:
            sys.setprofile(None)

    def hook(self, frame: FrameType, event: str, what: object) -> None:
        """Count one step of the interpreter."""
        if event == "call":
            self._call(frame)
        elif event == "c_call" and getattr(what, "__name__", "").startswith("execute"):
            self._statement(frame)

    def _call(self, frame: FrameType) -> None:
        code = frame.f_code
        if code.co_name == "send_all" and self.package(code.co_filename) is None:
            self.frames_to_socket = max(self.frames_to_socket, frames_from_stage(frame))
        if code.co_name == "send_nowait":
            self._queued(frame)
        package = self.package(code.co_filename)
        if package is None or code.co_name.startswith("<") or frame.f_lasti > first_instruction(code):
            return
        if any(is_outside(one.f_code.co_filename) for one in callers(frame)):
            return
        self.functions.add((code.co_filename, code.co_firstlineno, code.co_qualname))
        self.calls += 1
        self.package_changes += self._last not in (None, package)
        self._last = package

    def _queued(self, frame: FrameType) -> None:
        """Note through how many frames of the journal a caller came when it queued an operation."""
        if hops := sum(self.package(one.f_code.co_filename) == "journal" for one in callers(frame)):
            self._entries[hops] += 1

    def _statement(self, frame: FrameType) -> None:
        """Note through how many frames of one operation the writer came to the database that runs a statement of it.

        The database begins and commits transactions by itself; these statements belong to no operation.
        """
        hops = [*takewhile(self._is_operation, (one.f_code for one in callers(frame)))]
        if Execution.apply.__code__ in hops:
            self._statements[len(hops) - 1] += 1

    def _is_operation(self, code: CodeType) -> bool:
        return self.package(code.co_filename) == "journal" and not code.co_flags & inspect.CO_COROUTINE


def commonest(counts: Counter[int]) -> int:
    """Return the commonest number, the smaller of two that are equally common; 0 where there is none."""
    return min(counts, key=lambda number: (-counts[number], number), default=0)


def callers(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and the frames that called it, the innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def frames_from_stage(frame: FrameType) -> int:
    """Return how many frames lead from a stage to this one, through the tasks that it spawned; 0 where no stage does."""
    frames = [*in_task(frame)]
    task = trio.lowlevel.current_task()
    while task.parent_nursery is not None:
        task = task.parent_nursery.parent_task
        frames += reversed([one for one, _ in task.iter_await_frames()])
    frames = [frame, *(one for one in frames[1:] if not Path(one.f_code.co_filename).is_relative_to(TRIO))]
    stages = [
        number for number, one in enumerate(frames, 1) if Path(one.f_code.co_filename).name == "stages.py"
    ]
    return max(stages, default=0)


def in_task(frame: FrameType) -> Iterator[FrameType]:
    """Yield a frame and its callers, up to the first one of the running task."""
    first = getattr(trio.lowlevel.current_task().coro, "cr_frame", None)
    for one in callers(frame):
        yield one
        if one is first:
            return


async def watch(folder: Path) -> Figures:
    """Let a connector answer two requests, the second one under the hook."""
    trace = Trace(package_of)
    dependencies = FhevmDependencies.make(wall, block_time=1.0, computing=0.1, seed=0)
    async with dependencies.run_in_memory() as network:
        users = Traffic(dependencies, FirstChoice(0))
        ports = Ports(network, offload_inline, wall, FirstChoice(0).random)
        replies = Replies()
        async with open_connector(settings(dependencies, folder), ports=ports, on_event=replies.note):
            await replies.after(users.forms["public"])
            await trio.sleep_until(math.ceil(trio.current_time() + QUIET) + PHASE)
            with trace.watching():
                await replies.after(users.forms["public"])
    return trace.figures()


def settings(dependencies: FhevmDependencies, folder: Path) -> Settings:
    """Return the connector's settings."""
    return dependencies.settings(folder / "journal.db", attestation=AttestationMode.OFF)


def wall() -> float:
    """Return the wall clock."""
    return EPOCH_SECONDS + trio.current_time()


class Replies:
    """Waits for the event that a reply is included."""

    def __init__(self) -> None:
        self._included = trio.Event()

    def note(self, event: Event) -> None:
        """Take an event; the hook stops here, before the tasks that wait for it run."""
        if isinstance(event, ReplyIncluded):
            sys.setprofile(None)
            self._included.set()

    async def after(self, ask: Callable[[], object]) -> None:
        """Make a request and wait until its reply is included."""
        self._included = trio.Event()
        ask()
        with trio.fail_after(REPLY_TIMEOUT):
            await self._included.wait()


def measure() -> Figures:
    """Return the figures of one request. Repeating: they are the same, since the caches of functions, and of logs, begin empty."""
    gc.unfreeze()  # a run of tests froze what there was, caches among it
    for one in gc.get_objects():
        if isinstance(one, _lru_cache_wrapper) and one.__module__.startswith("kmsconn."):
            one.cache_clear()
    logs.known_logs.clear()
    with tempfile.TemporaryDirectory() as folder, seeded_scheduler(0):
        return trio.run(watch, Path(folder), clock=trio.testing.MockClock(autojump_threshold=0))


ROWS = {
    "functions": ("functions", 725, 500),
    "files": ("files", 140, 85),
    "calls": ("calls", 3272, 2000),
    "changes of package": ("package_changes", 625, 450),
    "frames from a stage to its socket": ("frames_to_socket", 12, 10),
    "hops of a journal operation": ("journal_hops", 2, 2),
}
"""Each line of the table: the figure, what it was when the simplification began, and the aim."""


def table(figures: Figures) -> str:
    """Return the figures as a table in Markdown."""
    lines = ["| one public decryption passes through | now | before | aim |", "|---|--:|--:|--:|"]
    for title, (name, before, aim) in ROWS.items():
        lines.append(f"| {title} | {getattr(figures, name):,} | {before:,} | {aim:,} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table(measure()))
