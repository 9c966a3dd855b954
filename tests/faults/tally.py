"""Adds up what the worlds of one test run did: proof that they were not empty."""

from __future__ import annotations

from collections import Counter

import attrs

from kmsconn.testing.world import WorldReport


@attrs.define
class Tally:
    """How many worlds were played, and how often what happened in them."""

    worlds: int = 0
    seconds: float = 0.0
    requests: int = 0
    steps: Counter[str] = attrs.field(factory=Counter)
    faults: Counter[str] = attrs.field(factory=Counter)
    sometimes: Counter[str] = attrs.field(factory=Counter)

    def add(self, report: WorldReport) -> None:
        self.worlds += 1
        self.seconds += report.seconds
        self.requests += len(report.ground_truth.requested)
        self.steps += report.steps
        self.faults += report.faults
        self.sometimes += report.sometimes

    def tables(self) -> list[tuple[str, Counter[str]]]:
        return [
            ("requests", Counter({"answered once each": self.requests})),
            ("steps", self.steps),
            ("faults", self.faults),
            ("sometimes", self.sometimes),
        ]


TALLY = Tally()
