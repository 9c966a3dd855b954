"""Copies the contract ABIs that the program reads at run time from ``contracts_abi`` into the package.

Keeps what decoding and encoding need (types, names, indexed flags) and leaves out documentation, indices by
selector and test vectors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE, TARGET = ROOT / "contracts_abi", ROOT / "kmsconn" / "_generated" / "abi"
KEPT = ("type", "name", "inputs", "outputs", "components", "indexed")


def lean(item: Any) -> Any:
    """Return an ABI item without what only readers and compilers need."""
    if isinstance(item, list):
        return [lean(part) for part in item]
    return {key: lean(item[key]) if isinstance(item[key], list) else item[key] for key in KEPT if key in item}


def render(source: dict[str, Any]) -> str:
    """Return the text of a generation's run-time file: group → contract → items, one line for each."""
    groups = _grouped(source).items()
    return _lines({group: {name: lean(items) for name, items in found.items()} for group, found in groups})


def _grouped(source: dict[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """Return the contracts of a source, and beside them those of its other revisions; of 0.15 the one contract that is another."""
    if "gone_from_KMSGeneration_0_3_0" in source:
        return {"later": {"KMSGeneration": source["contracts"]["KMSGeneration"]}}
    if "contracts" in source:
        return {"contracts": source["contracts"], "later": source["later_events"]["contracts"]}
    contracts = {name: items for name, items in source.items() if isinstance(items, list)}
    return {"contracts": contracts} | {name: one["contracts"] for name, one in source["revisions"].items()}


def _lines(groups: dict[str, dict[str, list[Any]]]) -> str:
    blocks = []
    for group, contracts in groups.items():
        lists = [
            f"  {json.dumps(name)}: [\n" + ",\n".join(f"   {json.dumps(item)}" for item in items) + "\n  ]"
            for name, items in contracts.items()
        ]
        blocks.append(f" {json.dumps(group)}: {{\n" + ",\n".join(lists) + "\n }")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def files() -> dict[Path, str]:
    """Return the text of every run-time file."""
    sources = sorted(SOURCE.glob("*.json"))
    return {TARGET / path.name: render(json.loads(path.read_text())) for path in sources}
