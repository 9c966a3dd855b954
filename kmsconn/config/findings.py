"""What reading the sources has found so far: values by option with their places, faults, warnings. Never reads anything itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from kmsconn.config.options import ACCEPTED, ALIASES, KNOWN_NAMES, OPTIONS
from kmsconn.config.structuring import suggestion
from kmsconn.errors import Fault


@attrs.frozen
class Given:
    """A value as a source gave it, where it stands, and under which name."""

    value: Any = attrs.field(repr=False)
    place: str
    name: str


@attrs.define
class Findings:
    """The collector that every source adds to; later sources win."""

    given: dict[str, Given] = attrs.field(factory=dict)
    faults: list[Fault] = attrs.field(factory=list)
    warnings: list[Fault] = attrs.field(factory=list)

    def fault(self, place: str, message: str, remedy: str = "") -> None:
        """Note one thing that is wrong."""
        self.faults.append(Fault(place, message, remedy))

    def warn(self, place: str, message: str, remedy: str = "") -> None:
        """Note one thing that is accepted, but should be known."""
        self.warnings.append(Fault(place, message, remedy))

    def take(self, source: dict[str, Given]) -> None:
        """Take all that one source gives; its right names win over its aliases."""
        for name, one in source.items():
            if name in ALIASES:
                self._take_alias(name, one, source)
            elif name in OPTIONS:
                self.given[name] = one
            else:
                self._judge_other(name, one)

    def _take_alias(self, name: str, one: Given, source: dict[str, Given]) -> None:
        alias = ALIASES[name]
        if alias.option in source:
            self.warn(one.place, f"is not used: {alias.option} is given too")
            return
        if alias.warning:
            self.warn(one.place, alias.warning, f"taken as {alias.option}")
        value = alias.translate(one.value) if alias.translate else one.value
        self.given[alias.option] = attrs.evolve(one, value=value)

    def _judge_other(self, name: str, one: Given) -> None:
        if name in ACCEPTED:
            self.warn(one.place, "has no effect", ACCEPTED[name].instead)
        elif any(known.startswith(f"{name}.") for known in KNOWN_NAMES):
            self.fault(one.place, "is a table", "its options are " + ", ".join(self._inside(name)))
        else:
            self.fault(one.place, "is unknown", suggestion(name, KNOWN_NAMES))

    @staticmethod
    def _inside(table: str) -> Iterator[str]:
        return (name for name in OPTIONS if name.startswith(f"{table}."))
