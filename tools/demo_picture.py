"""Draws docs/demo.svg from a real run of the demonstration: the look at which most different stages can be seen, and what came of it."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from io import StringIO
from pathlib import Path

import trio
from rich.console import Console, RenderableType

from kmsconn.emulator.commands.arguments import report
from kmsconn.emulator.commands.demo import plan_of, run_demo, seen
from kmsconn.emulator.emulation import Emulation
from kmsconn.observe.monitor import Monitor
from kmsconn.operate.commands.main import make_parser
from kmsconn.operate.commands.top_view import TopFrame
from kmsconn.transport.ports import offload_to_threads

WIDTH, HEIGHT = 104, 40
LOOKING = 0.01  # seconds between looks; stages last some tens of milliseconds
_FONTS = re.compile(
    r"@font-face \{.*?\}\s*", re.DOTALL
)  # the template's fonts would be fetched from elsewhere


class Photographer:
    """Looks at a demonstration all the time and keeps its richest frame."""

    def __init__(self, monitor: Monitor) -> None:
        self.best: RenderableType = ""
        self._monitor, self._score = monitor, 0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            status = seen(self._monitor)
            score = len({one["stage"] for one in status["newest"]})
            if score > self._score:
                self._score, self.best = score, TopFrame(status)
            await trio.sleep(LOOKING)


async def perform(emulation: Emulation, monitor: Monitor, photographer: Photographer) -> None:
    """Run the demonstration under the photographer's eyes."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(photographer.run)
        await run_demo(emulation, monitor, monitor.on_event, offload=offload_to_threads, wall=time.time)
        nursery.cancel_scope.cancel()


def draw() -> str:
    """Return the picture as SVG."""
    arguments = make_parser("demo").parse_args(["demo", "--requests", "60", "--rate", "25"])
    console = Console(
        record=True,
        width=WIDTH,
        height=HEIGHT,
        file=StringIO(),
        force_terminal=True,
        color_system="truecolor",
    )
    with tempfile.TemporaryDirectory() as folder:
        emulation, monitor = Emulation.of(plan_of(arguments, Path(folder) / "kmsconn.toml")), Monitor()
        photographer, began = Photographer(monitor), time.monotonic()
        trio.run(perform, emulation, monitor, photographer)
        result = emulation.result()
        console.print(photographer.best)
        for text in ("", *report(result, time.monotonic() - began)):
            console.print(f" {text}", style="green" if result.well else "red", highlight=False)
    return _FONTS.sub("", console.export_svg(title="kmsconn demo", unique_id="kmsconn-demo"))


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/demo.svg").write_text(draw(), encoding="utf-8")
