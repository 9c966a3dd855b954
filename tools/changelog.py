"""Assembles the changelog of a release from the fragments in changelog.d, or prints what it would say."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[1]
CHANGELOG = ROOT / "CHANGELOG.md"
FOLDER = ROOT / "changelog.d"
UNRELEASED = "## Unreleased\n"

KINDS = {
    "security": "Security",
    "removed": "Removed",
    "changed": "Changed",
    "added": "Added",
    "fixed": "Fixed",
}
"""The kinds of fragments with their headings, in the order of the changelog: what may need action comes first."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*\.(?P<kind>[a-z]+)\.md")
_VERSION = re.compile(r"\d+\.\d+\.\d+(rc\d+)?")


@attrs.frozen
class Fragment:
    """One line of the changelog: its file, its kind and its sentences."""

    path: Path
    kind: str
    text: str


def read_fragment(path: Path) -> Fragment:
    """Return a fragment. Raises ValueError for a name of another form and for a text that is empty or has a bullet."""
    name, text = _NAME.fullmatch(path.name), path.read_text(encoding="utf-8").strip()
    if name is None or name["kind"] not in KINDS:
        raise ValueError(
            f"{path.name} should be called NAME.KIND.md with one of the kinds {', '.join(KINDS)}"
        )
    if not text or text.startswith(("-", "*", "#")):
        raise ValueError(f"{path.name} should have plain sentences, without a bullet or a heading")
    return Fragment(path, name["kind"], text)


def read_fragments(folder: Path) -> list[Fragment]:
    """Return the fragments of a folder in the order of their names. Raises ValueError for a faulty one."""
    return [read_fragment(path) for path in sorted(folder.iterdir()) if path.name != "README.md"]


def sections(fragments: Iterable[Fragment]) -> str:
    """Return fragments as sections by kind, each fragment a bullet."""
    by_kind: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for one in fragments:
        by_kind[one.kind].append("- " + one.text.replace("\n", "\n  "))
    told = [f"### {KINDS[kind]}\n" + "\n".join(lines) + "\n" for kind, lines in by_kind.items() if lines]
    return "\n".join(told)


def released(changelog: str, version: str, day: str, fragments: Sequence[Fragment]) -> str:
    """Return the changelog with everything that is unreleased under a version.

    Raises ValueError for a version of another form, one that is there already, and where nothing is unreleased.
    """
    if _VERSION.fullmatch(version) is None:
        raise ValueError(f"{version} is not a version such as 0.2.0 or 0.2.0rc1")
    if f"\n## {version} " in changelog:
        raise ValueError(f"the changelog has {version} already")
    before, heading, rest = changelog.partition(UNRELEASED)
    written, marker, older = rest.partition("\n## ")
    told = "\n".join(filter(None, (written.strip("\n") and written.strip("\n") + "\n", sections(fragments))))
    if not (heading and told):
        raise ValueError("nothing is unreleased")
    return f"{before}{heading}\n## {version} · {day}\n\n{told}{marker}{older}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the sections of the next release, or write them into the changelog and remove the fragments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--release", metavar="VERSION", help="write the changelog of this version and remove the fragments"
    )
    version = parser.parse_args(arguments).release
    try:
        fragments = read_fragments(FOLDER)
        if not version:
            sys.stdout.write(sections(fragments))
            return 0
        day = datetime.now(UTC).date().isoformat()
        text = released(CHANGELOG.read_text(encoding="utf-8"), version, day, fragments)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    CHANGELOG.write_text(text, encoding="utf-8")
    for one in fragments:
        one.path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
