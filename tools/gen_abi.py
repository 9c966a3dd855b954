"""Copies the contract ABIs that the program reads at run time from ``contracts_abi`` into the package.

Keeps what decoding and encoding need (types, names, indexed flags) and leaves out documentation, indices by
selector and test vectors. ``make gen`` runs it; ``--check`` only says whether the copies are fresh.
"""

from __future__ import annotations

import json
import sys
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


def stale() -> list[Path]:
    """Return the run-time files that are not what their sources give."""
    return [target for target, text in _wanted() if not target.exists() or target.read_text() != text]


def _wanted() -> list[tuple[Path, str]]:
    return [
        (TARGET / path.name, render(json.loads(path.read_text()))) for path in sorted(SOURCE.glob("*.json"))
    ]


def main() -> int:
    """Write the run-time files, or check them. Returns the exit status."""
    if "--check" in sys.argv[1:]:
        old = stale()
        for path in old:
            sys.stderr.write(f"{path.relative_to(ROOT)} is stale: make gen\n")
        return 1 if old else 0
    TARGET.mkdir(parents=True, exist_ok=True)
    for path, text in _wanted():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
