"""Draws docs/demo.svg from a real run of the demonstration: the frame in which most different stages can be seen, and the summary."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from io import StringIO
from pathlib import Path

import trio
from rich.console import Console, RenderableType

from kmsconn.emulator.commands.demo_view import LEAST_ROWS, frame, newest, summary
from kmsconn.emulator.demo import Demo, DemoPlan, DemoResult, run_demo
from kmsconn.transport.ports import offload_to_threads

WIDTH = 100
LOOKING = 0.01  # seconds between looks; stages last some tens of milliseconds
_FONTS = re.compile(
    r"@font-face \{.*?\}\s*", re.DOTALL
)  # the template's fonts would be fetched from elsewhere


class Photographer:
    """Looks at a demonstration all the time and keeps its richest frame."""

    def __init__(self, demo: Demo) -> None:
        self.best: RenderableType = ""
        self._demo, self._score = demo, 0

    async def run(self) -> None:
        """Look until cancelled."""
        began = trio.current_time()
        while True:
            rows = newest(self._demo.progress, LEAST_ROWS)
            score = len({row.stage for row in rows})
            if len(rows) == LEAST_ROWS and score > self._score:
                self._score, self.best = score, frame(self._demo, trio.current_time() - began)
            await trio.sleep(LOOKING)


async def perform(demo: Demo, photographer: Photographer) -> DemoResult:
    """Run the demonstration under the photographer's eyes."""
    with tempfile.TemporaryDirectory() as directory:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(photographer.run)
            journal = Path(directory) / "journal.db"
            result = await run_demo(demo, journal, offload=offload_to_threads, wall=time.time)
            nursery.cancel_scope.cancel()
    return result


def draw() -> str:
    """Return the picture as SVG."""
    demo = Demo.of(DemoPlan(requests=60, rate=25.0), time.time)
    photographer = Photographer(demo)
    result = trio.run(perform, demo, photographer)
    console = Console(
        record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(photographer.best)
    for text in ("", *summary(result)):
        console.print(f" {text}", style="green" if result.well else "red", highlight=False)
    return _FONTS.sub("", console.export_svg(title="kmsconn demo", unique_id="kmsconn-demo"))


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/demo.svg").write_text(draw(), encoding="utf-8")
