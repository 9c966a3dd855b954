"""All contracts of a generation as one object: calls, results, logs and reverts by name. Never asks a chain.

A name is ``Contract.function``, ``Contract.Event`` or, of an earlier or later revision, ``revision.Contract.function``. The contract
may be left out where one contract alone has the name. A function that is overloaded is chosen by the values that it is given, or named
by its signature.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import SELECTOR_BYTES, Abi, Error, Event, Function
from kmsconn.ethereum.hexes import to_hex
from kmsconn.model.profiles import profile_named
from kmsconn.protocols.port import Revert
from kmsconn.protocols.published import read_groups
from kmsconn.protocols.reverting import name_revert, show_value

_MAIN = "contracts"
Entry = TypeVar("Entry", Function, Event)


@attrs.frozen
class Decoded:
    """A call or a log with its values in the order of their declaration; ``names`` are empty where the ABI gives none."""

    contract: str
    name: str
    signature: str
    names: tuple[str, ...]
    values: tuple[Any, ...]

    def __getitem__(self, name: str) -> Any:
        """Return a value by its name. Raises KeyError."""
        if name not in self.names:
            raise KeyError(name)
        return self.values[self.names.index(name)]

    def __str__(self) -> str:
        """Show it as it is written in Solidity, with names."""
        pairs = zip(self.names, self.values, strict=True)
        shown = (f"{name}={show_value(value)}" if name else show_value(value) for name, value in pairs)
        return f"{self.contract}.{self.name}({', '.join(shown)})"


@attrs.frozen
class UnknownLog:
    """A log of an event, or of an overload of one, that no known ABI has; or of known name and other content. ``reason`` says which."""

    topics: tuple[bytes, ...]
    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")
    reason: str

    def __str__(self) -> str:
        return f"unknown log {to_hex(self.topics[0]) if self.topics else 'without topics'}: {self.reason}"


class Interfaces:
    """Every function, event and error of one generation. Made by ``interfaces``."""

    def __init__(self, generation: str) -> None:
        self.generation = generation
        groups = read_groups(generation)
        items = {
            _label(group, name): found for group, named in groups.items() for name, found in named.items()
        }
        self.contracts: Mapping[str, Abi] = {label: Abi.from_items(found) for label, found in items.items()}
        """Every contract by its name; those of other revisions as ``revision.Contract``."""
        self._names = {label: _parameter_names(found) for label, found in items.items()}
        self._errors = {
            selector: error
            for abi in self.contracts.values()
            for selector, error in abi.errors_by_selector.items()
        }

    # --- calls

    def encode_call(self, name: str, *values: Any) -> bytes:
        """Return the calldata of a function. Raises KeyError for a name that is none or not enough, ValueError for unfit values."""
        return self.function(name, values)[1].encode(*values)

    def decode_call(self, calldata: bytes) -> Decoded:
        """Read calldata, whichever contract it is for. Raises Undecodable."""
        for label, abi in self.contracts.items():
            function = abi.functions_by_selector.get(calldata[:SELECTOR_BYTES])
            if function is not None:
                return self._decoded(label, function, function.decode(calldata))
        raise Undecodable(f"no known function has the selector {to_hex(calldata[:SELECTOR_BYTES])}")

    def decode_result(self, name: str, data: bytes) -> tuple[Any, ...]:
        """Read what ``eth_call`` of a function gives. Raises KeyError, Undecodable."""
        return self.function(name)[1].decode_result(data)

    def function(self, name: str, values: Sequence[Any] | None = None) -> tuple[str, Function]:
        """Return a function and its contract by name; of overloaded ones that which takes the values. Raises KeyError."""
        found = list(self._named(name, "functions_by_selector"))
        if len(found) > 1 and values is not None:
            found = [(label, function) for label, function in found if _takes(function, values)] or found
        return _only(name, found)

    # --- logs

    def encode_log(self, name: str, *values: Any) -> tuple[tuple[bytes, ...], bytes]:
        """Return the topics and the data of an event. Raises KeyError, ValueError."""
        return self.event(name)[1].encode(*values)

    def decode_log(self, topics: Sequence[bytes], data: bytes) -> Decoded | UnknownLog:
        """Read a log. What is unknown or has another content than its event is reported as a value, so that one log stops nobody."""
        known = [
            (label, abi.events_by_topic[topics[0]])
            for label, abi in self.contracts.items()
            if topics and topics[0] in abi.events_by_topic
        ]
        reason = "no known event, nor an overload of one, has this topic"
        for label, event in known:
            try:
                return self._decoded(label, event, event.decode(topics, data))
            except Undecodable as error:
                reason = f"{label}.{event.signature}: {error}"
        return UnknownLog(tuple(topics), data, reason)

    def event(self, name: str) -> tuple[str, Event]:
        """Return an event and its contract by name, or by signature where it is overloaded. Raises KeyError."""
        return _only(name, list(self._named(name, "events_by_topic")))

    # --- reverts

    def show_revert(self, data: bytes | None) -> Revert:
        """Name what a contract reverted with, and its arguments; of an unknown error its selector stands for the name."""
        return name_revert(self._errors, {}, data)

    # --- names

    def _named(self, name: str, table: str) -> Iterator[tuple[str, Any]]:
        head, bracket, _ = name.partition("(")
        label, _, short = head.rpartition(".")
        wanted = short + name[len(head) :] if bracket else short
        for contract, abi in self.contracts.items():
            if contract == label or (not label and "." not in contract):
                entries: Mapping[bytes, Function | Event] = getattr(abi, table)
                yield from (
                    (contract, one) for one in entries.values() if wanted in {one.name, one.signature}
                )

    def _decoded(self, label: str, entry: Function | Event, values: tuple[Any, ...]) -> Decoded:
        return Decoded(label, entry.name, entry.signature, self._names[label][entry.signature], values)


def interfaces(generation: str) -> Interfaces:
    """Return the contracts of ``fhevm`` or ``httpz-rc7``. Raises ValueError for another generation."""
    return _interfaces(profile_named(generation))


@cache
def _interfaces(profile: str) -> Interfaces:
    return Interfaces(profile)


def _label(group: str, contract: str) -> str:
    return contract if group == _MAIN else f"{group}.{contract}"


def _parameter_names(items: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    kinds: dict[str, type[Function | Event | Error]] = {"function": Function, "event": Event, "error": Error}
    named = (item for item in items if item["type"] in kinds)
    return {
        kinds[item["type"]].from_item(item).signature: tuple(one.get("name", "") for one in item["inputs"])
        for item in named
    }


def _takes(function: Function, values: Sequence[Any]) -> bool:
    try:
        function.encode(*values)
    except (ValueError, TypeError, AttributeError):
        return False
    return True


def _only(name: str, found: Sequence[tuple[str, Entry]]) -> tuple[str, Entry]:
    if len(found) == 1:
        return found[0]
    if not found:
        raise KeyError(f"{name}: no such entry")
    raise KeyError(
        f"{name}: ambiguous, give one of {', '.join(f'{label}.{one.signature}' for label, one in found)}"
    )
