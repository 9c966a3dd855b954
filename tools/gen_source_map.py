"""Writes the source map of docs/architecture.md: every package and module with the first sentence of its docstring."""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.architecture.test_layers import PACKAGES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kmsconn"
TARGET = ROOT / "docs" / "architecture.md"

BEGIN = "<!-- source map: printed by `make gen` from the docstrings -->\n"
END = "<!-- end of the source map -->\n"
COLUMN = 33  # where what a line says begins


def first_sentence(module: Path) -> str:
    """Return the first sentence on the first line of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return re.split(r"\. (?=[A-Z])", docstring.partition("\n")[0])[0].removesuffix(".")


def entry(depth: int, name: str, module: Path) -> str:
    """Return one line of the map."""
    return f"{'  ' * depth + name:<{COLUMN - 1}} {first_sentence(module)}".rstrip()


def entries(folder: Path, depth: int, order: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the lines of what a package contains: its modules, then its packages; those named in ``order`` come in that order."""
    for module in sorted(folder.glob("*.py")):
        if module.name != "__init__.py":
            yield entry(depth, module.name, module)
    packages = [path.parent for path in folder.glob("*/__init__.py")]
    for package in sorted(
        packages, key=lambda one: (order.index(one.name) if one.name in order else len(order), one.name)
    ):
        yield entry(depth, f"{package.name}/", package / "__init__.py")
        if package.name != "_generated":
            yield from entries(package, depth + 1)


@cache
def source_map() -> str:
    """Return the source map as a fenced block."""
    root = entry(0, "kmsconn/", PACKAGE / "__init__.py")
    return "```text\n" + "\n".join([root, *entries(PACKAGE, 1, PACKAGES)]) + "\n```\n"


def renewed(page: str) -> str:
    """Return a page with its source map as it is now. Raises ValueError where the page has no place for it."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{TARGET} lacks the line {BEGIN if not begin else END}")
    return before + BEGIN + source_map() + END + after


def main() -> int:
    """Write the map, or say that it is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the map is up to date")
    page = TARGET.read_text(encoding="utf-8")
    if not parser.parse_args().check:
        TARGET.write_text(renewed(page), encoding="utf-8")
        return 0
    if renewed(page) == page:
        return 0
    sys.stderr.write(f"{TARGET} is stale: make gen\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
