"""Counts the lines of each package: code, prose (docstrings and comments) and modules that are too small to be read by themselves."""

from __future__ import annotations

import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
ASIDE = ("emulator", "testing", "_generated")
"""Parts of the package that no connector needs."""
OUTSIDE = ("bench", "tests", "tools")
SMALL = 80
"""Lines below which a module is often a part of a thought."""
COLUMNS = ("modules", "small", "lines", "code", "prose")

_STARTS = {tokenize.ENCODING, tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT}
_HOLDS_NOTHING = _STARTS | {tokenize.COMMENT, tokenize.ENDMARKER}


def code_lines(source: bytes) -> int:
    """Return how many lines hold something besides comments and docstrings."""
    held: set[int] = set()
    before = tokenize.ENCODING
    for token in tokenize.tokenize(BytesIO(source).readline):
        docstring = token.type == tokenize.STRING and before in _STARTS
        if token.type not in _HOLDS_NOTHING and not docstring:
            held.update(range(token.start[0], token.end[0] + 1))
        if token.type not in {tokenize.COMMENT, tokenize.NL}:
            before = token.type
    return len(held)


def weigh(module: Path) -> Counter[str]:
    """Return the figures of one module."""
    source = module.read_bytes()
    lines, code = source.count(b"\n"), code_lines(source)
    filled = sum(1 for line in source.split(b"\n") if line.strip())
    return Counter(modules=1, small=lines < SMALL, lines=lines, code=code, prose=filled - code)


def modules() -> Iterator[tuple[str, Path]]:
    """Yield each module with its package; those beside the packages of kmsconn belong to ``(top)``."""
    for module in (ROOT / "kmsconn").rglob("*.py"):
        parts = module.relative_to(ROOT / "kmsconn").parts
        yield (parts[0] if len(parts) > 1 else "(top)"), module
    for folder in OUTSIDE:
        for module in (ROOT / folder).rglob("*.py"):
            yield folder, module


def table() -> str:
    """Return the figures of all packages, the largest first, and the sum of those that a connector needs."""
    packages: dict[str, Counter[str]] = defaultdict(Counter)
    for package, module in modules():
        packages[package].update(weigh(module))
    product = [name for name in packages if name not in (*ASIDE, *OUTSIDE)]
    rows = [(name, packages[name]) for name in sorted(product, key=lambda name: -packages[name]["lines"])]
    rows.append(("product", sum((packages[name] for name in product), Counter())))
    rows += [(name, packages[name]) for name in (*ASIDE, *OUTSIDE)]
    heading = "| package | modules | below 80 | lines | code | prose |\n|---|--:|--:|--:|--:|--:|\n"
    return heading + "".join(
        f"| {name} | {' | '.join(f'{figures[column]:,}' for column in COLUMNS)} |\n" for name, figures in rows
    )


if __name__ == "__main__":
    sys.stdout.write(table())
