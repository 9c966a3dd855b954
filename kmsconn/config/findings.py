"""What reading the sources has found: values by option with their places, faults, warnings; and their explanation. Reads nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from kmsconn.config.description import REQUIRED, Described
from kmsconn.config.forms import suggestion
from kmsconn.config.options import FHEVM, Accepted, OptionTable
from kmsconn.config.structuring import structure
from kmsconn.config.values import Role
from kmsconn.errors import Fault
from kmsconn.transport.urls import show_origin


@attrs.frozen
class Given:
    """A value as a source gave it, where it stands, and under which name; ``folder`` is that of a file, where its relative paths begin."""

    value: Any = attrs.field(repr=False)
    place: str
    name: str
    folder: Path = Path()


@attrs.define
class Findings:
    """The collector that every source adds to; later sources win."""

    table: OptionTable = FHEVM
    given: dict[str, Given] = attrs.field(factory=dict)
    faults: list[Fault] = attrs.field(factory=list)
    warnings: list[Fault] = attrs.field(factory=list)

    def fault(self, place: str, message: str, remedy: str = "") -> None:
        """Note one thing that is wrong."""
        self.faults.append(Fault(place, message, remedy))

    def warn(self, place: str, message: str, remedy: str = "") -> None:
        """Note one thing that is accepted, but should be known."""
        self.warnings.append(Fault(place, message, remedy))

    def require(self, *names: str, beside: Iterable[str]) -> None:
        """Note which options are missing although one is given that needs them: the first of ``beside`` that is."""
        given = next((name for name in beside if name in self.given), None)
        for name in names:
            if given is not None and name not in self.given:
                self.fault(name, f"is required beside {given}")

    def take(self, source: dict[str, Given], *, strict: bool = True) -> None:
        """Take all that one source gives; its right names win over its aliases.

        An unknown name is a fault in a file. With ``strict`` off it is a warning: an environment is shared with other programs, and
        the variables of the three services of 0.14 must not keep a connector from starting.
        """
        for name, one in source.items():
            if name in self.table.aliases:
                self._take_alias(name, one, source)
            elif name in self.table.options:
                self.given[name] = one
            elif name in self.table.accepted:
                self._take_accepted(self.table.accepted[name], one)
            else:
                self._judge_unknown(name, one, self.fault if strict else self.warn)

    def _take_alias(self, name: str, one: Given, source: dict[str, Given]) -> None:
        alias = self.table.aliases[name]
        remark = alias.remark(one.value) if alias.remark else ""
        if alias.option in source or (remark and self._is_named(alias.option)):
            self.warn(one.place, f"is not used: {alias.option} is given too")
            return
        if remark:
            self.warn(one.place, f"is taken as {alias.option}", remark)
        if alias.warning:
            self.warn(one.place, alias.warning, f"taken as {alias.option}")
        value = alias.translate(one.value) if alias.translate else one.value
        self.given[alias.option] = attrs.evolve(one, value=value)

    def _is_named(self, option: str) -> bool:
        """Say whether an earlier source gives an option by its right name: what an alias means for another program does not replace it."""
        return option in self.given and self.given[option].name == option

    def _take_accepted(self, accepted: Accepted, one: Given) -> None:
        self.warn(one.place, "has no effect", accepted.instead)
        if accepted.form is not None:
            structure(one.value, accepted.form, one.place, self.faults)

    def _judge_unknown(self, name: str, one: Given, note: Callable[[str, str, str], None]) -> None:
        if inside := [known for known in self.table.options if known.startswith(f"{name}.")]:
            self.fault(one.place, "is a table", f"its options are {', '.join(inside)}")
        else:
            note(one.place, "is unknown", suggestion(name, self.table.known_names))


# --- explained


@attrs.frozen
class ExplainedOption:
    """One option: its value as text, its source (``default``, a file, a variable, a network) and its environment variable."""

    name: str
    value: str
    source: str
    variable: str


def explain(
    table: OptionTable, given: Mapping[str, Given], values: Mapping[str, Any], file: str
) -> Iterator[ExplainedOption]:
    """Yield every option of a generation in the order of the reference. ``values`` are typed, None where an option is not set."""
    for option in table.options.values():
        yield ExplainedOption(
            option.name,
            _shown(option, values.get(option.name)),
            _source(option, given, file),
            option.environment,
        )


def _source(option: Described, given: Mapping[str, Given], file: str) -> str:
    one = given.get(option.name)
    if one is None:
        return "not set" if option.default is REQUIRED else "default"
    if one.place.upper() == one.place:
        return one.place
    return file if one.place == one.name else one.place


def _shown(option: Described, value: Any) -> str:
    """Return a value as a file would say it. A secret is only said to be set; a URL loses its credentials, path and query."""
    if value is None:
        return "–"
    if option.form.write is not None:
        return option.form.write(value)
    if isinstance(value, frozenset):
        return ", ".join(role for role in Role if role in value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, str) and "://" in value:
        return show_origin(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
