"""How a demonstration looks: one frame of the live table, one line of a row, the summary. Pure; starts and prints nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kmsconn.emulator.commands.emulate_result import keys_as_text, milliseconds
from kmsconn.emulator.demo import Demo, DemoResult, ProgressRow, ProgressStage, ProgressTable
from kmsconn.emulator.ground_truth import ChainVerdict
from kmsconn.emulator.traffic import GENERATIONS
from kmsconn.ethereum.ids import counter_of, tag_of

LEAST_ROWS: Final = 15
_OTHER_LINES: Final = 7
"""Lines of a frame beside the rows of requests, and one that a terminal keeps for the cursor."""

_STEP, _STEP_AHEAD = "━━", "──"
_LAST = len(ProgressStage) - 1
_COLORS: Final = {
    ProgressStage.PENDING: "white",
    ProgressStage.CHECKED: "blue",
    ProgressStage.GATHERED: "blue",
    ProgressStage.SUBMITTED: "cyan",
    ProgressStage.ANSWERED: "cyan",
    ProgressStage.SIGNED: "magenta",
    ProgressStage.SENT: "magenta",
    ProgressStage.INCLUDED: "green",
}
_TITLE = "kmsconn demo"


def frame(demo: Demo, seconds: float, height: int = 0) -> RenderableType:
    """Return what is to be seen ``seconds`` after the start, as high as the terminal: ``height`` lines, but at least 21."""
    rows = max(LEAST_ROWS, min(height - _OTHER_LINES, demo.plan.requests))
    return Group(_title(demo, seconds), _table(demo.progress, rows), _bar(demo), _totals(demo))


def _title(demo: Demo, seconds: float) -> Text:
    when = f"   {seconds:4.1f} s   block {demo.dependencies.gateway.head.number:<4}"
    if demo.keys is not None and demo.keys.doing:
        return _line((f" {_TITLE}", "bold"), (when, "cyan"), (f"  keys: {demo.keys.doing}", "magenta"))
    around = f"  a connector among {GENERATIONS[demo.plan.profile].words}"
    return _line((f" {_TITLE}", "bold"), (when, "cyan"), (around, "dim"))


def _line(*parts: tuple[str, str]) -> Text:
    """Return one line that ends in an ellipsis where the terminal does."""
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _table(board: ProgressTable, rows: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, header_style="dim", pad_edge=True)
    table.add_column("request", no_wrap=True, width=10)
    table.add_column("form", no_wrap=True, width=18)
    table.add_column("stage", no_wrap=True, ratio=1, overflow="ellipsis")
    table.add_column("latency", justify="right", no_wrap=True, width=9)
    for row in newest(board, rows):
        table.add_row(short_id(board.name_of(row)), board.form_of(row), _progress(row), _latency(board, row))
    for _ in range(rows - len(board.rows)):
        table.add_row()  # the frame keeps its height from the beginning
    return table


def newest(board: ProgressTable, count: int) -> list[ProgressRow]:
    """Return the newest rows, the newest last."""
    return list(islice(reversed(board.rows.values()), count))[::-1]


def short_id(identifier: int) -> str:
    """Write an id as its kind and its number: the tag in front and the counter behind, of what is mostly zeros between them."""
    return f"{tag_of(identifier):02x}…{counter_of(identifier):04x}"


def _progress(row: ProgressRow) -> Text:
    if row.closed:
        return Text(row.note, style="green" if row.well else "red")
    color = _COLORS[row.stage]
    done = Text(_STEP * row.stage, style=color)
    return Text.assemble(
        done,
        (_STEP_AHEAD * (_LAST - row.stage), "bright_black"),
        (f"  {row.stage.name.lower()}", color),
        (f"  {row.note}", "yellow"),
    )


def _latency(board: ProgressTable, row: ProgressRow) -> Text:
    age = board.age_of(row)
    return Text(milliseconds(age), style="" if row.stage is ProgressStage.INCLUDED else "bright_black")


def _bar(demo: Demo) -> RenderableType:
    included, total = demo.progress.totals().included, demo.plan.requests
    bar = ProgressBar(total=total, completed=included, complete_style="green", finished_style="green")
    return Padding(bar, (0, 1))


def _totals(demo: Demo) -> Text:
    totals, verdict = demo.progress.totals(), demo.ground_truth.verdict()
    return _line(
        (f" {totals.requested}", "bold"), (f" of {demo.plan.requests} requested   ", "dim"),
        (f"{totals.seen}", "bold"), (" seen   ", "dim"),
        (f"{totals.answered}", "bold cyan"), (" answered   ", "dim"),
        (f"{totals.included}", "bold green"), (" included   ", "dim"),
        (f"{totals.failed}", "bold red" if totals.failed else "bold"), (" failed   ", "dim"),
        (f"p50 {milliseconds(verdict.p50)}", "dim"),
    )  # fmt: skip


def line(board: ProgressTable, row: ProgressRow, seconds: float) -> str:
    """Return a finished row as one line of plain text."""
    ended = row.note if row.closed else "included"
    latency = milliseconds(board.age_of(row))
    return (
        f"{seconds:6.1f} s  {short_id(board.name_of(row)):10} {board.form_of(row):18} {ended:8} {latency:>9}"
    )


def summary(result: DemoResult) -> Iterator[str]:
    """Yield the result as lines of text."""
    totals, verdict = result.totals, result.verdict
    yield f"{result.requests} requests: {totals.answered} answered by the Core, {totals.included} replies included, {_doubles(verdict)}"
    yield f"from the event's block to the reply's: p50 {milliseconds(verdict.p50)}, p99 {milliseconds(verdict.p99)}"
    if result.keys is not None:
        yield from keys_as_text(result.keys)
    if not result.well:
        yield f"NOT every request was answered once: {result.failed} have no reply{_lacking(result)}"


def _doubles(verdict: ChainVerdict) -> str:
    doubles = verdict.doubled + verdict.strays
    return f"{doubles} transactions too many" if doubles else "none twice"


def _lacking(result: DemoResult) -> str:
    return ", and the key lifecycle failed" if result.keys is not None and not result.keys.well else ""
