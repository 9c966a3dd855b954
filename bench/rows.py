"""Small measurements: what one kind of call costs the process that makes it, and how a module of them is shown and collected.

Such a module has ``rows()`` and ends with ``show(rows())``: text, or JSON with ``--json``, so that each may run in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator

import attrs
import trio

MODULES = ("bench.grpc_calls", "bench.http_gets", "bench.chain_calls")


@attrs.frozen
class Row:
    """One kind of call, and by whom: ``cpu_us`` microseconds of CPU for each; ``per_second`` where calls were timed too."""

    name: str
    by: str
    cpu_us: float
    per_second: float | None = None

    def __str__(self) -> str:
        """Return a line."""
        rate = "" if self.per_second is None else f"  {self.per_second:8.0f}/s"
        return f"{self.name:36}  {self.by:22}  {self.cpu_us:9.1f} us{rate}"


def show(rows: Iterable[Row]) -> None:
    """Print rows as they come."""
    as_json = "--json" in sys.argv
    for row in rows:
        print(json.dumps(attrs.asdict(row)) if as_json else row, flush=True)


def collect(modules: Iterable[str] = MODULES) -> Iterator[Row]:
    """Run modules, each in a process of its own, and yield their rows. Raises CalledProcessError when one fails."""
    for module in modules:
        command = [sys.executable, "-m", module, "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
        yield from (Row(**json.loads(line)) for line in done.stdout.splitlines())


def beside(module: str, measure: Callable[[int], Awaitable[list[Row]]]) -> list[Row]:
    """Run ``measure`` with the port that the module's server, in a process of its own, prints first."""
    command = [sys.executable, "-m", module, "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        try:
            return trio.run(measure, int(process.stdout.readline()))
        finally:
            process.kill()


def run_module(serve: Callable[[], Awaitable[object]], rows: Callable[[], Iterable[Row]]) -> None:
    """Be such a module as a program: the server, or what shows the rows."""
    if sys.argv[1:] == ["serve"]:
        trio.run(serve)
    else:
        show(rows())
