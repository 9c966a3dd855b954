"""The samples of processes that are ended and started again: each start is a life of its own, and CPU of ended ones counts on. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import attrs

from bench.proc import Sample
from bench.series import as_columns, thinned

MIB = 1 << 20


@attrs.define
class Lives:
    """Of each process by its name, and of each start of it, the samples."""

    samples: dict[str, dict[int, list[Sample]]] = attrs.field(
        factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def note(self, name: str, start: int, sample: Sample) -> None:
        """Note a sample of a process; of one that is ending right now there is nothing to note."""
        if sample.resident:
            self.samples[name][start].append(sample)

    def as_one(self, now: Sequence[Sample], at: float) -> Sample:
        """Return those that run now as one, with the CPU of all that ran."""
        lives = [life for starts in self.samples.values() for life in starts.values()]
        cpu = sum(life[-1].cpu for life in lives)
        each = {pid: used for one in now for pid, used in one.each.items()}
        return Sample(at, cpu, sum(one.resident for one in now), sum(one.descriptors for one in now), each)

    def columns(self, period: float = 1.0) -> dict[str, list[dict[str, list[float]]]]:
        """Return them as the JSON file has them: of each process a list of lives."""
        return {
            name: [as_columns(thinned(starts[number], period)) for number in sorted(starts)]
            for name, starts in self.samples.items()
        }


def told(processes: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]) -> list[str]:
    """Return memory, descriptors and CPU of each process as text, life by life; nothing of one that was never restarted and is alone."""
    if len(processes) == 1 and all(len(lives) == 1 for lives in processes.values()):
        return []
    return [f"{name}: {_told(lives)}" for name, lives in sorted(processes.items())]


def _told(lives: Sequence[Mapping[str, Sequence[float]]]) -> str:
    memory = " ".join(f"{max(life['resident']) / MIB:.0f}" for life in lives)
    descriptors = " ".join(f"{max(life['descriptors'])}" for life in lives)
    cpu = " ".join(f"{life['cpu'][-1]:.0f}" for life in lives)
    return f"in each start at most: memory {memory} MB, descriptors {descriptors}; CPU {cpu} s"
