"""Writes what is generated, message classes first, since the others read them; ``--check`` writes nothing and names what is stale.

A module of ``GENERATORS`` says in ``files()`` the text of each of its files, None of one that is to go.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
GENERATORS: Final = (
    "gen_protos", "gen_abi", "options_reference", "gen_transactions", "gen_sbom", "drills_page", "gen_monitoring", "gen_http_api",
)  # fmt: skip


def stale(generators: Iterable[str] = GENERATORS) -> Iterator[tuple[Path, str | None]]:
    """Yield the files that are not what they should be, with the text that they should have."""
    for name in generators:
        files: dict[Path, str | None] = import_module(f"tools.{name}").files()
        for path, text in files.items():
            if text != (path.read_text(encoding="utf-8") if path.exists() else None):
                yield path, text


def main(arguments: list[str]) -> int:
    """Write the files, or say which are stale. Returns the exit status."""
    status = 0
    for path, text in stale():
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is stale: make gen", file=sys.stderr)
            status = 1
        elif text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
