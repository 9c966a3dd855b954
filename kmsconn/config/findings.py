"""What reading the sources has found so far: values by option with their places, faults, warnings. Never reads anything itself."""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn.config.generations import generation_of
from kmsconn.config.options import FHEVM_014, OptionTable
from kmsconn.config.structuring import structure, suggestion
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

    table: OptionTable = FHEVM_014
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
            if name in self.table.aliases:
                self._take_alias(name, one, source)
            elif name in self.table.options:
                self.given[name] = one
            else:
                self._judge_other(name, one)

    def _take_alias(self, name: str, one: Given, source: dict[str, Given]) -> None:
        alias = self.table.aliases[name]
        if alias.option in source:
            self.warn(one.place, f"is not used: {alias.option} is given too")
            return
        if alias.warning:
            self.warn(one.place, alias.warning, f"taken as {alias.option}")
        value = alias.translate(one.value) if alias.translate else one.value
        self.given[alias.option] = attrs.evolve(one, value=value)

    def _judge_other(self, name: str, one: Given) -> None:
        accepted = self.table.accepted.get(name)
        if accepted is not None:
            self.warn(one.place, "has no effect", accepted.instead)
            if accepted.type is not None:
                structure(one.value, accepted.type, one.place, self.faults)
        elif inside := [known for known in self.table.options if known.startswith(f"{name}.")]:
            self.fault(one.place, "is a table", f"its options are {', '.join(inside)}")
        else:
            self.fault(one.place, "is unknown", self._remedy(name))

    def _remedy(self, name: str) -> str:
        other = generation_of(name)
        if other is not None:
            return f'it is an option of another generation: profile = "{other}"'
        return suggestion(name, self.table.known_names)
