"""Says of each option which value holds and where it comes from. Pure; shows no secret and of a URL only its origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from kmsconn.config.description import REQUIRED, Described
from kmsconn.config.findings import Given
from kmsconn.config.options import OptionTable
from kmsconn.config.values import Role
from kmsconn.transport.urls import show_origin


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
