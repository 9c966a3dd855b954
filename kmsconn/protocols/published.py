"""The published ABIs of a generation as ABI objects, read from the package's copy. Never asks a chain."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import resources
from typing import Any

from kmsconn.ethereum.abi import Abi, Error
from kmsconn.model.profiles import FHEVM, HTTPZ_RC7

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
