"""The published ABIs of a generation as ABI objects, read from the package's copy. Never asks a chain."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import resources
from typing import Any

from kmsconn.ethereum.abi import Abi, Error

Groups = dict[str, dict[str, list[dict[str, Any]]]]


def read_groups(generation: str) -> Groups:
    """Return group → contract → JSON items of a generation (``fhevm-0.14``); the group ``contracts`` is its own."""
    source = resources.files("kmsconn._generated") / "abi" / f"{generation}.json"
    groups: Groups = json.loads(source.read_text())
    return groups


def as_contracts(group: dict[str, list[dict[str, Any]]]) -> dict[str, Abi]:
    """Return the contracts of a group by name."""
    return {name: Abi.from_items(items) for name, items in group.items()}


def union_of_errors(contracts: Iterable[Abi]) -> dict[bytes, Error]:
    """Return the errors of several contracts by selector: an error of a called contract comes through unchanged."""
    return {selector: error for abi in contracts for selector, error in abi.errors_by_selector.items()}
