"""Pictures of a result file: ``python -m bench.plots FILE.json`` writes FILE-*.png beside it. Measures nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.series import cores, open_over, windows
from bench.table import size

MIB = 1024 * 1024
SPREADS: Final = {
    "hearing": "event → start call",
    "sending": "answer → transaction",
    "whole": "event → reply's block",
}
SHORTEST_WINDOW = 1.0


def draw(path: Path) -> list[Path]:
    """Draw what a result file holds and return the pictures."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if "verdict" in found:
        return [_over_time(found, path.with_name(f"{path.stem}-time.png"))]
    return [
        _against_load(found, path.with_name(f"{path.stem}-load.png")),
        _memory(found, path.with_name(f"{path.stem}-memory.png")),
    ]


def _subplots(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained")


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=110)
    return path


def _title(found: Mapping[str, Any]) -> str:
    machine = found["machine"]
    return f"{found['connector']} {machine['commit']}, {machine['cpu']}, {machine['date'][:16]}"


# --- latency against load


def _against_load(found: Mapping[str, Any], path: Path) -> Path:
    sizes = sorted({case["size"] for case in found["cases"]})
    figure, axes = _subplots(1, len(sizes), 4.5 * len(sizes), 4)
    figure.suptitle(_title(found))
    for axis, each in zip(axes[0], sizes, strict=True):
        _one_size(axis, [case for case in found["cases"] if case["size"] == each])
        axis.set_title(size(each))
    figure.legend(
        *axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small"
    )
    return _save(figure, path)


def _one_size(axis: Any, cases: Sequence[Mapping[str, Any]]) -> None:
    rates = [case["outcome"]["offered_rate"] for case in cases]
    for number, (name, label) in enumerate(SPREADS.items()):
        for share, style in (("p50", "-"), ("p99", ":")):
            times = [case["outcome"][name][share] for case in cases]
            axis.plot(rates, times, f"C{number}{style}", marker=".", label=f"{label}, {share}")
    for case in cases:
        if not case["outcome"]["sustained"]:
            axis.axvline(case["outcome"]["offered_rate"], color="red", alpha=0.3)
    axis.set(xscale="log", yscale="log", xlabel="requests per second offered", ylabel="milliseconds")
    _logarithmic(axis.xaxis, axis.yaxis)


# --- memory over the loads


def _memory(found: Mapping[str, Any], path: Path) -> Path:
    figure, axes = _subplots(2, 1, 9, 6)
    figure.suptitle(_title(found))
    for each, sides in found["samples"].items():
        _sampled(axes[0][0], sides["connector"], "resident", size(int(each)), MIB)
        _sampled(axes[1][0], sides["connector"], "descriptors", size(int(each)), 1)
    _from_zero(axes[0][0], axes[1][0])
    axes[0][0].set(ylabel="resident, MiB")
    axes[1][0].set(ylabel="descriptors", xlabel="seconds")
    axes[0][0].legend(fontsize="small")
    return _save(figure, path)


def _sampled(axis: Any, columns: Mapping[str, Sequence[float]], name: str, label: str, unit: float) -> None:
    begun = columns["at"][0]
    seconds = [moment - begun for moment in columns["at"]]
    axis.plot(seconds, [value / unit for value in columns[name]], label=label)


def _from_zero(*axes: Any) -> None:
    for axis in axes:
        axis.set_ylim(bottom=0)


def _logarithmic(*axes: Any) -> None:
    """Let numbers stand at the ticks, not powers."""
    from matplotlib.ticker import LogFormatter

    for axis in axes:
        axis.set_major_formatter(LogFormatter())
        axis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))


# --- a soak over its time


def _over_time(found: Mapping[str, Any], path: Path) -> Path:
    figure, axes = _subplots(5, 1, 11, 13)
    figure.suptitle(_title(found))
    memory, descriptors, used, latency, waiting = (row[0] for row in axes)
    columns = found["samples"]["connector"]
    begun, seconds = columns["at"][0], columns["at"][-1] - columns["at"][0]
    width = max(SHORTEST_WINDOW, seconds / 300)
    for side, of_side in found["samples"].items():
        _sampled(memory, of_side, "resident", side, MIB)
        _sampled(descriptors, of_side, "descriptors", side, 1)
        _used(used, of_side, side, begun, width)
    _latencies(latency, found["requests"], begun, width)
    waiting.plot([moment - begun for moment in columns["at"]], open_over(found["requests"], columns["at"]))
    _from_zero(memory, descriptors, used, waiting)
    memory.set(ylabel="resident, MiB")
    descriptors.set(ylabel="descriptors")
    used.set(ylabel="cores used")
    waiting.set(ylabel="open requests", xlabel="seconds")
    memory.legend(fontsize="small")
    for axis in (memory, descriptors, used, latency, waiting):
        _mark(axis, found["happened"], begun)
        axis.set_xlim(-0.03 * seconds, 1.1 * seconds)
    _name(memory, found["happened"], begun)
    return _save(figure, path)


def _used(axis: Any, columns: Mapping[str, Sequence[float]], label: str, begun: float, width: float) -> None:
    shares = cores(columns["at"], columns["cpu"], 5 * width)
    axis.plot([at - begun for at, _ in shares], [share for _, share in shares], label=label)


def _latencies(axis: Any, requests: Sequence[Sequence[float | None]], begun: float, width: float) -> None:
    found = windows(requests, width)
    seconds = [window.at - begun for window in found]
    axis.plot(seconds, [window.p50 for window in found], label="p50")
    axis.plot(seconds, [window.p99 for window in found], label="p99", alpha=0.7)
    axis.set(yscale="log", ylabel="event → reply's block, ms")
    _logarithmic(axis.yaxis)
    axis.legend(fontsize="small")


def _mark(axis: Any, happened: Sequence[Mapping[str, Any]], begun: float) -> None:
    for one in happened:
        axis.axvline(one["at"] - begun, color="grey", linewidth=0.8, linestyle="--")


def _name(axis: Any, happened: Sequence[Mapping[str, Any]], begun: float) -> None:
    for one in happened:
        if not one["name"].endswith("no more"):
            axis.text(one["at"] - begun, 0, f" {one['name']}", rotation=90, fontsize="small", va="bottom")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        for picture in draw(Path(argument)):
            print(picture)
