"""The published ABIs of a generation, read from the package's copy, and how a revert is named by them. Never asks a chain."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import SELECTOR_BYTES, Abi, Error
from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address, checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.model.profiles import FHEVM, HTTPZ_RC7
from kmsconn.protocols.port import Revert, Verdict

Groups = dict[str, dict[str, list[dict[str, Any]]]]


_FILES = {FHEVM: ("fhevm-0.14", "fhevm-0.15"), HTTPZ_RC7: ("httpz-rc7",)}
"""The files of a generation, one for each release in which a contract changed."""


def read_groups(profile: str) -> Groups:
    """Return group → contract → JSON items of a generation; the group ``contracts`` is its own, ``later`` that of its next release."""
    groups: Groups = {}
    for name in _FILES[profile]:
        for group, contracts in _read(name).items():
            groups.setdefault(group, {}).update(contracts)
    return groups


def _read(name: str) -> Groups:
    source = resources.files("kmsconn._generated") / "abi" / f"{name}.json"
    groups: Groups = json.loads(source.read_text())
    return groups


def as_contracts(group: dict[str, list[dict[str, Any]]]) -> dict[str, Abi]:
    """Return the contracts of a group by name."""
    return {name: Abi.from_items(items) for name, items in group.items()}


def union_of_errors(contracts: Iterable[Abi]) -> dict[bytes, Error]:
    """Return the errors of several contracts by selector: an error of a called contract comes through unchanged."""
    return {selector: error for abi in contracts for selector, error in abi.errors_by_selector.items()}


_BUILT_IN = {
    error.selector: error
    for error in (
        Error.from_item({"name": "Error", "inputs": [{"type": "string"}]}),
        Error.from_item({"name": "Panic", "inputs": [{"type": "uint256"}]}),
    )
}
NO_DATA = "no revert data"
"""The name of a revert that says nothing."""

_PLAIN_NUMBER = 1 << 64


def name_revert(errors: Mapping[bytes, Error], verdicts: Mapping[str, Verdict], data: bytes | None) -> Revert:
    """Name the revert by its data; what is not known, or not there, is RETRY."""
    if not data:
        return Revert(NO_DATA, (), Verdict.RETRY)
    error = errors.get(data[:SELECTOR_BYTES]) or _BUILT_IN.get(data[:SELECTOR_BYTES])
    try:
        values = error.decode(data) if error else None
    except Undecodable:
        values = None
    if error is None or values is None:
        return Revert(to_hex(data[:SELECTOR_BYTES]), (), Verdict.RETRY)
    verdict = verdicts.get(error.name, Verdict.RETRY)
    return Revert(error.name, tuple(show_value(value) for value in values), verdict)


def show_value(value: Any) -> str:
    """Write one value: ids and bytes as hex, addresses by EIP-55, small numbers and the rest plainly."""
    if isinstance(value, bytes):
        return checksum(Address(value)) if len(value) == ADDRESS_BYTES else to_hex(value)
    if isinstance(value, int) and value >= _PLAIN_NUMBER:
        return f"0x{value:064x}"
    if isinstance(value, tuple):
        return f"({', '.join(show_value(part) for part in value)})"
    return "".join(character if character.isprintable() else "�" for character in str(value))
