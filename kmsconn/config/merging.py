"""Merges the configuration files of the three services of 0.14 into one: what is kept, renamed and dropped. Pure; writes nothing.

Source: fhevm-0.14.md 9 (the options of gw-listener, kms-worker and tx-sender).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from kmsconn.config.description import form_of
from kmsconn.config.findings import Given
from kmsconn.config.forms import ChainId, SecretText, suggestion
from kmsconn.config.options import ALIASES, FHEVM
from kmsconn.config.places import ContractAddress, CoreEndpoints, RpcUrls, WebsocketUrls
from kmsconn.config.structuring import HostChainTables, structure
from kmsconn.errors import ConfigError, Fault

_UNITED: Final = tuple(map(form_of, (RpcUrls, WebsocketUrls, CoreEndpoints)))
"""Lists of endpoints: what the files name is united, in their order."""

_IDENTITY: Final = tuple(map(form_of, (ChainId, HostChainTables, ContractAddress, SecretText)))
"""Values that say which network and which node this is: two that differ are a fault."""

_OF_THEIR_DATABASE: Final = ("database_url", "database_pool_size")
"""The database is the way back, until the services are gone."""

_SERVICE_NAME: Final = "service_name"
"""Each service had its own; the one process keeps its default."""


@attrs.frozen
class Offer:
    """One value of an option, and the file that gives it."""

    file: str
    value: Any = attrs.field(repr=False)


@attrs.frozen
class Merged:
    """The options of the one file, and a line for everything that was renamed, dropped or chosen. No line shows a value."""

    options: Mapping[str, Any] = attrs.field(repr=False)
    notes: tuple[str, ...]


def merge(files: Mapping[str, Mapping[str, Given]]) -> Merged:
    """Return the options that the files give together; each file is a name and its values by dotted option name.

    Endpoints are united. Of other options that differ the first file's value is taken, and a note says so. Raises ConfigError with every
    chain id, address, key or list of host chains that differs.
    """
    notes: list[str] = []
    offers: dict[str, list[Offer]] = {}
    for file, values in files.items():
        for name, given in values.items():
            for option, value in _translated(file, name, given.value, notes):
                offers.setdefault(option, []).append(Offer(file, value))
    if faults := [fault for name, several in offers.items() for fault in _conflicts(name, several)]:
        raise ConfigError(tuple(faults))
    return Merged({name: _chosen(name, several, notes) for name, several in offers.items()}, tuple(notes))


def _translated(file: str, name: str, value: Any, notes: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the option that a name stands for, with its value; nothing where it is dropped."""
    alias = ALIASES.get(name)
    if name == _SERVICE_NAME:
        notes.append(f"{file}: {name} is dropped: the three services are one process")
    elif name in _OF_THEIR_DATABASE and not str(value).startswith("sqlite:"):
        notes.append(
            f"{file}: {name} is dropped: the database of the three services stays as it is; journal names ours"
        )
    elif name in FHEVM.options:
        yield name, value
    elif alias is not None:
        notes.append(f"{file}: {name} becomes {alias.option}")
        yield alias.option, alias.translate(value) if alias.translate else value
    elif name in FHEVM.accepted:
        notes.append(f"{file}: {name} is dropped: {FHEVM.accepted[name].instead}")
    else:
        remedy = suggestion(name, FHEVM.known_names)
        notes.append(f"{file}: {name} is dropped: kmsconn has no such option{remedy and f'; {remedy}'}")


def _conflicts(name: str, offers: Sequence[Offer]) -> Iterator[Fault]:
    if FHEVM.options[name].form not in _IDENTITY:
        return
    first = offers[0]
    for other in offers[1:]:
        if _typed(name, other.value) != _typed(name, first.value):
            yield Fault(name, f"differs between {first.file} and {other.file}", "make them the same first")


def _typed(name: str, value: Any) -> Any:
    """Return a value in its option's form, so that two spellings of one address are equal; as it is where it is faulty."""
    faults: list[Fault] = []
    typed = structure(value, FHEVM.options[name].form, name, faults)
    return value if faults else typed


def _chosen(name: str, offers: Sequence[Offer], notes: list[str]) -> Any:
    first, *others = offers
    if FHEVM.options[name].form in _UNITED:
        return _united(offers)
    taken = _typed(name, first.value)
    differing = (other.file for other in others if _typed(name, other.value) != taken)
    notes += (
        f"{file}: {name} is dropped: {first.file} gives another value, which is taken" for file in differing
    )
    return first.value


def _united(offers: Sequence[Offer]) -> list[str]:
    written = (
        offer.value if isinstance(offer.value, list) else str(offer.value).split(",") for offer in offers
    )
    return list(dict.fromkeys(str(url).strip() for urls in written for url in urls))


def toml_text(options: Mapping[str, Any]) -> str:
    """Return options as a TOML file: dotted names, tables in lists as arrays of tables at the end."""
    tables = {name: value for name, value in options.items() if _is_tables(value)}
    lines = [f"{name} = {_value(value)}" for name, value in options.items() if name not in tables]
    for name, entries in tables.items():
        for entry in entries:
            lines += ["", f"[[{name}]]", *(f"{key} = {_value(value)}" for key, value in entry.items())]
    return "\n".join(lines) + "\n"


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _value(value: Any) -> str:
    """Write a value: texts, numbers, booleans and lists of them are the same in JSON and TOML."""
    return json.dumps(value)
