"""Counts the bytecode instructions of a connector for each public request: a figure that other work on the machine does not move.

Connector and emulated dependencies run in one process, in memory and in virtual time. What the connector's tasks execute is counted, the
libraries' and Trio's Python included, from the first block of requests after the warm-up until all replies are included. What is done in
C (SQLite, secp256k1, JSON, the kernel) is not counted, nor is Trio's scheduler between two steps.

    python -m bench.instructions                              # four blocks of 25 requests
    PYTHONPATH=../another-checkout python bench/instructions.py
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from io import StringIO
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import attrs
import trio
import trio.testing

from kmsconn.config.description import LogFormat
from kmsconn.config.settings import MonitoringSettings
from kmsconn.connector.connector import open_connector
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies, Traffic
from kmsconn.model.events import Event, ReplyIncluded
from kmsconn.observe.logs import LineLog
from kmsconn.operate.commands.run import Observers
from kmsconn.testing.endings import seeded_scheduler
from kmsconn.transport.ports import Ports, offload_inline

EPOCH_SECONDS = 1_767_225_600.0  # the wall clock at the beginning
BLOCK_SECONDS = 0.25
_PLACE = re.compile(r".*(?:site-packages|/python3\.\d+)/|.*/(?=kmsconn/)")
_OUTSIDE = ("kmsconn/emulator/", "_mock_clock.py", "_instrumentation.py")


@attrs.define(eq=False)
class InstructionCount(trio.abc.Instrument):
    """Counts what the tasks below ``root`` execute, by code object, between ``begin`` and ``end``."""

    root: Callable[..., Any]
    steps: int = 0
    instructions: Counter[CodeType] = attrs.field(factory=Counter)
    calls: Counter[str] = attrs.field(factory=Counter)
    """How often functions were entered, or went on, by their qualified names."""
    _begun: bool = False
    _counting: bool = False
    _outside: FrameType | None = None
    """The function that was called last of those that stand for the outside; what it calls is not counted either."""
    _ours: dict[trio.lowlevel.Task, bool] = attrs.field(factory=dict)

    def begin(self) -> None:
        """Count from now on."""
        self._begun = True
        sys.settrace(self._enter)

    def end(self) -> None:
        """Count no more."""
        self._begun = False
        sys.settrace(None)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count the step if it is one of ours."""
        self._counting = self._begun and self._is_ours(task)
        self.steps += self._counting

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - Trio's signature
        """Count nothing between two steps."""
        self._counting, self._outside = False, None

    def _is_ours(self, task: trio.lowlevel.Task) -> bool:
        if task not in self._ours:
            nursery = task.parent_nursery
            below = nursery is not None and self._is_ours(nursery.parent_task)
            self._ours[task] = below or task.coro.cr_code is self.root.__code__
        return self._ours[task]

    def _enter(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:  # noqa: ARG002 - of settrace
        if not self._counting or self._outside is not None:
            return None
        frame.f_trace_lines = False
        if is_outside(frame.f_code.co_filename):
            self._outside = frame
            return self._leave
        frame.f_trace_opcodes = True
        self.calls[frame.f_code.co_qualname] += 1
        return self._execute

    def _leave(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:  # noqa: ARG002 - of settrace
        if event == "return" and frame is self._outside:
            self._outside = None
        return self._leave

    def _execute(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:  # noqa: ARG002 - of settrace
        self.instructions[frame.f_code] += event == "opcode"
        return self._execute


@cache
def is_outside(file: str) -> bool:
    """Say whether code stands in for sockets and clocks, or calls what counts."""
    return any(part in file for part in _OUTSIDE)


def place_of(code: CodeType) -> str:
    """Return the package of the connector, or the library, to which code belongs."""
    path = _PLACE.sub("", code.co_filename)
    generated = re.search(r"attrs generated \w+ (kmsconn\.\w+|\w+)", path)
    parts = [f"attrs of {generated[1].replace('.', '/')}"] if generated else Path(path).parts
    return "/".join(parts[:2]) if parts[0] == "kmsconn" else parts[0]


async def measure(count: InstructionCount, blocks: int, each: int, folder: Path) -> None:
    """Let a connector answer ``blocks`` times ``each`` public requests, after as many to warm up, and count."""
    wall: Callable[[], float] = lambda: EPOCH_SECONDS + trio.current_time()  # noqa: E731
    dependencies = FhevmDependencies.make(wall, block_time=BLOCK_SECONDS, seed=0)
    traffic, included = Traffic(dependencies), Included()
    async with dependencies.run_in_memory() as network, trio.open_nursery() as nursery:
        ports = Ports(network, offload_inline, wall, lambda: 0.5)
        settings = dependencies.settings(folder / "journal.db")
        await nursery.start(connector, settings, ports, included.on_event)
        for number in range(1, blocks + 2):
            for _ in range(each):
                traffic.forms["public"]()
            await trio.sleep(BLOCK_SECONDS)
            if number in {1, blocks + 1}:
                await included.wait(number * each)
                (count.begin if number == 1 else count.end)()
        nursery.cancel_scope.cancel()


async def connector(
    settings: Any,
    ports: Ports,
    on_event: Callable[[Event], None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a connector with its log and its metrics: the root of the tasks that are counted."""
    async with open_connector(settings, ports=ports, on_event=on_event) as running:
        await running.wait_ready()
        task_status.started()
        await trio.sleep_forever()


class Included:
    """Counts replies that were included, behind the observers of ``kmsconn run``."""

    def __init__(self) -> None:
        self._count, self._more = 0, trio.Event()
        settings = MonitoringSettings()
        self._observers = Observers(settings, LineLog(StringIO(), settings.log_level, LogFormat.JSON))

    def on_event(self, event: Event) -> None:
        """Take an event."""
        self._observers.on_event(event)
        if isinstance(event, ReplyIncluded):
            self._count += 1
            self._more.set()

    async def wait(self, count: int) -> None:
        """Wait until so many were included."""
        while self._count < count:
            self._more = trio.Event()
            await self._more.wait()


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--each", type=int, default=25, help="requests in a block")
    chosen = parser.parse_args()
    count, requests = InstructionCount(connector), chosen.blocks * chosen.each
    clock = trio.testing.MockClock(autojump_threshold=0)
    with tempfile.TemporaryDirectory() as folder, seeded_scheduler(0):
        trio.run(measure, count, chosen.blocks, chosen.each, Path(folder), clock=clock, instruments=[count])
    places: Counter[str] = Counter()
    for code, executed in count.instructions.items():
        places[place_of(code)] += executed
    for place, executed in places.most_common():
        print(f"{executed / requests:9.0f}  {place}")
    print(f"{places.total() / requests:9.0f}  instructions for each request")
    for name, shown in (("CancelScope.__enter__", "cancel scopes"), ("Runner.spawn_impl", "tasks")):
        print(f"{count.calls[name] / requests:9.1f}  {shown}")
    print(f"{count.steps / requests:9.1f}  steps of tasks")


if __name__ == "__main__":
    main()
