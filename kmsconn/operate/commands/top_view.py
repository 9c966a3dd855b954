"""How ``kmsconn top`` looks: the status of a connector as tables that fill a terminal. Pure; asks and prints nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import attrs
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kmsconn.operate.commands.command import UNKNOWN, duration_text

Status = Mapping[str, Any]

FLOW: Final = (
    ("waiting", "waiting"), ("deferred", "deferred"), ("check", "check"), ("gather", "gather"), ("submit", "submit"),
    ("answer", "Core"), ("answered", "to sign"), ("signed", "sent"), ("included", "to final"),
)  # fmt: skip
"""The stations of a request, and their titles."""
WIDE: Final = 104
"""Columns from which two tables stand beside each other."""
_BARS: Final = " ▁▂▃▄▅▆▇█"
_STATES: Final = {"healthy": "green", "starting": "yellow", "draining": "yellow", "unhealthy": "red"}
_STAGES: Final = {
    "deferred": "yellow", "included": "green", "finalized": "green", "done": "green",
    "rejected": "red", "expired": "red", "quarantined": "red",
}  # fmt: skip


@attrs.define
class TopFrame:
    """What fills the screen: the newest status, and why there is no newer one."""

    status: Status
    problem: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the parts from the top, and of the requests as many as there is room for."""
        room = options.max_height
        inner = options.update(height=None)
        parts: list[RenderableType] = []
        for part in self._parts(options.max_width):
            height = len(console.render_lines(part, inner))
            if height > room:
                break
            parts.append(part)
            room -= height
        yield Group(*parts, *_requests(self.status, room))

    def _parts(self, width: int) -> Iterator[RenderableType]:
        yield _title(self.status)
        if self.problem:
            yield _line((f" connection lost, trying again: {self.problem}", "bold red"))
        yield from _parts(self.status, width)


def whole(status: Status) -> RenderableType:
    """Return everything, however high it is."""
    return Group(_title(status), *_parts(status, WIDE - 1), *_requests(status, 1000))


def _parts(status: Status, width: int) -> Iterator[RenderableType]:
    yield from _alerts(status)
    yield _below(_flow(status))
    yield _below(_throughput(status, width))
    tables = (_chains(status), _transactions(status), _latency(status), _dependencies(status))
    if width < WIDE:
        yield from map(_below, tables)
        return
    for left, right in (tables[:2], tables[2:]):
        beside = Table.grid(expand=True, padding=(0, 2))
        beside.add_column(ratio=1)
        beside.add_column(ratio=1)
        beside.add_row(left, right)
        yield _below(beside)


def _below(part: RenderableType) -> Padding:
    """Return a part with an empty line above."""
    return Padding(part, (1, 1, 0, 1))


def _line(*parts: tuple[str, str]) -> Text:
    """Return one line that ends in an ellipsis where the terminal does."""
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _title(status: Status) -> Text:
    at = datetime.fromtimestamp(status["at"], UTC).strftime("%H:%M:%S UTC")
    service = "" if status["service"] == "kmsconn" else f" {status['service']}"
    return _line(
        (f" kmsconn{service}", "bold"), (f" {status['version']}  ", "dim"),
        (f" {status['state']} ", f"bold reverse {_STATES.get(status['state'], 'white')}"), (f"  {at}", "dim"),
    )  # fmt: skip


def _alerts(status: Status) -> Iterator[RenderableType]:
    if not status["alerts"]:
        yield _line((" no alert", "green"))
    for alert in status["alerts"]:
        color = "red" if alert["severity"] == "critical" else "yellow"
        several = f" ({alert['count']} requests)" if alert["count"] > 1 else ""
        yield _line(
            (f" {alert['severity']} ", f"bold reverse {color}"), (f" {alert['dependency']} {alert['cause']}: ", f"bold {color}"),
            (" ".join(alert["text"].split()) + several, color),
        )  # fmt: skip
        yield _line(("   to do: ", "bold"), (alert["remedy"] or "see the text", ""))


def _flow(status: Status) -> Table:
    table = Table(box=None, expand=True, header_style="dim", padding=0)
    for _, title in FLOW:
        table.add_column(title, justify="center", no_wrap=True, ratio=1)
    table.add_row(*(_count(name, status["flow"].get(name, 0)) for name, _ in FLOW))
    return table


def _count(name: str, number: int) -> Text:
    if not number:
        return Text("0", style="dim")
    return Text(f"{number:,}", style="bold yellow" if name == "deferred" else "bold cyan")


def _throughput(status: Status, width: int) -> Table:
    grid = Table.grid(padding=(0, 2))
    for name, color in (("recorded", "blue"), ("included", "green")):
        series: Sequence[int] = status["throughput"][name]
        lately = sum(series[-12:]) / 60
        grid.add_row(
            _line((f" {name}", "dim")),
            Text(f"{lately:.1f}/s", justify="right"),
            Text(_spark(series[-max(10, width - 26) :]), style=color, no_wrap=True, overflow="crop"),
        )
    return grid


def _spark(series: Sequence[int]) -> str:
    most = max(1, *series)
    return "".join(_BARS[-(-one * (len(_BARS) - 1) // most)] for one in series)


def _table(title: str, *columns: str) -> Table:
    """Return a table whose first column takes the room, and whose others are numbers."""
    table = Table(box=None, expand=True, header_style="dim", pad_edge=False)
    table.add_column(Text(title, style="bold"), no_wrap=True, overflow="ellipsis", ratio=1)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True, overflow="ellipsis")
    return table


def _chains(status: Status) -> Table:
    table = _table("chains", "head", "age", "lag", "finality")
    for name, chain in status["chains"].items():
        lags = [one["lag"] for one in status["contracts"] if one["chain"] == name]
        age, finality = duration_text(chain["head_age"]), duration_text(chain["finalized_age"])
        table.add_row(name, _number(chain["head"]), age, _number(max(lags, default=None)), finality)
    return table


def _transactions(status: Status) -> Table:
    table = _table("transaction manager", "nonce", "in flight", "to sign", "ETH", "replies left")
    for name, one in status["transactions"].items():
        numbers = _number(one["next_nonce"]), _number(one["in_flight"]), _number(one["waiting"])
        table.add_row(name, *numbers, _ether(one["balance"]), _left(one["replies_left"]))
    return table


def _ether(wei: str | None) -> str:
    if wei is None:
        return UNKNOWN
    balance = int(wei) / 10**18
    return f"{balance:,.0f}" if balance >= 1000 else f"{balance:.6g}"  # noqa: PLR2004 - then no fraction matters


def _left(replies: int | None) -> str:
    return "> 10⁹" if replies is not None and replies > 1e9 else _number(replies)  # noqa: PLR2004 - as good as endless


def _latency(status: Status) -> Table:
    table = _table("latency, last 5 minutes", "p50", "p95", "p99")
    for name, one in status["latency"].items():
        table.add_row(name, duration_text(one["p50"]), duration_text(one["p95"]), duration_text(one["p99"]))
    return table


def _dependencies(status: Status) -> Table:
    table = _table("Cores and buckets", "")
    for name, core in status["cores"].items():
        table.add_row(name, _core_state(core))
    for name, bucket in status["buckets"].items():
        failed = f", {bucket['failed']:,} failed" if bucket["failed"] else ""
        table.add_row(name, Text(f"{bucket['asked']:,} asked{failed}", style="yellow" if failed else ""))
    return table


def _core_state(core: Mapping[str, Any]) -> Text:
    if core["serving"] is None:
        return Text("no answer yet", style="yellow")
    return Text("serves", style="green") if core["serving"] else Text("does not serve", style="bold red")


def _requests(status: Status, room: int) -> Iterator[RenderableType]:
    """Give the oldest requests without a reply on the chain, then the newest ones, in so many lines."""
    rows = room - _ABOVE_REQUESTS
    if rows < 1:
        return
    oldest = status["oldest"][: max(1, rows // 2)]
    known = {one["row"] for one in oldest}
    newest = [one for one in status["newest"] if one["row"] not in known]
    yield _below(_request_table(status["at"], [*oldest, *newest][:rows]))


def _request_table(at: float, requests: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(box=None, expand=True, header_style="dim", pad_edge=False)
    for name, options in _REQUEST_COLUMNS.items():
        table.add_column(name, no_wrap=True, overflow="ellipsis", **options)
    for one in requests:
        stage = Text(one["stage"], style=_STAGES.get(one["stage"], "cyan"))
        age, news = (duration_text(max(0.0, at - one[moment])) for moment in ("begun", "changed"))
        kind, detail = one["kind"].replace("_", " "), Text(one["detail"], style="dim")
        table.add_row(short_id(one), kind, stage, age, news, detail)
    return table


_ABOVE_REQUESTS: Final = 2  # lines: an empty one, the head
_REQUEST_COLUMNS: Final[Mapping[str, Mapping[str, Any]]] = {
    "oldest without reply, then newest": {"style": "bold"},
    "kind": {},
    "stage": {},
    "age": {"justify": "right"},
    "last news": {"justify": "right"},
    "waits for": {"ratio": 1},
}


def short_id(request: Mapping[str, Any]) -> str:
    """Write an id as its kind and its number, as the status page does; a row number where the id is not known."""
    if request["id"] is None:
        return f"row {request['row']}"
    digits = request["id"].removeprefix("0x")
    return f"0x{digits[:2]}…{digits[-8:].lstrip('0').rjust(4, '0')}"


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"
