"""What an installation from a lock file has, and ``kmsconn`` as if nothing else were installed.

``python -m tests.installations run.txt ARGUMENTS…`` is the command in an environment of ``requirements/run.txt``: the packages that
only tests and tools need are there, but cannot be imported.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder, PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import Any

from packaging.markers import Marker

ROOT = Path(__file__).parents[1]
_LOCKED = re.compile(r"^([\w.-]+)==\S+(?: ; (.+?))? \\$", re.MULTILINE)


def locked(lock: str) -> dict[str, str]:
    """Return the distributions of a file of ``requirements/``, each with its marker: where it is wanted, or nothing."""
    return dict(_LOCKED.findall((ROOT / "requirements" / lock).read_text(encoding="utf-8")))


def wanted(lock: str) -> list[str]:
    """Return those that this Python on this machine gets."""
    return [name for name, marker in locked(lock).items() if not marker or Marker(marker).evaluate()]


@cache
def packages_of(name: str) -> frozenset[str]:
    """Return what a distribution is imported as; nothing where it is not installed."""
    try:
        files = distribution(name).files or []
    except PackageNotFoundError:
        return frozenset()
    tops = {file.parts[0].partition(".")[0] for file in files if file.suffix in {".py", ".so"}}
    return frozenset(top for top in tops if top.isidentifier())


def packages(lock: str) -> frozenset[str]:
    """Return what an installation from a lock file can import beside the standard library."""
    return frozenset({"kmsconn"}.union(*map(packages_of, wanted(lock))))


class Only(DistributionFinder):
    """Finds what another finder finds, unless it belongs to a package that is not installed."""

    def __init__(self, finder: Any, there: frozenset[str]) -> None:
        self._finder, self._there = finder, there

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the other finder's word, or None."""
        if fullname.partition(".")[0] not in self._there:
            return None
        found: ModuleSpec | None = self._finder.find_spec(fullname, path, target)
        return found

    def find_distributions(self, context: Any = None) -> Iterable[Distribution]:
        """Return the other finder's."""
        find = getattr(self._finder, "find_distributions", None)
        return find(context) if find else ()


def _of_this_build() -> str:
    """Return the one module of the standard library that is on no list of it: how this Python was built."""
    multiarch = getattr(sys.implementation, "_multiarch", "")
    return f"_sysconfigdata_{sys.abiflags}_{sys.platform}_{multiarch}"


def install(lock: str) -> None:
    """Leave nothing to be imported but the standard library and the packages of a lock file."""
    there = packages(lock) | sys.stdlib_module_names | {_of_this_build()}
    sys.meta_path = [Only(finder, there) for finder in sys.meta_path]


if __name__ == "__main__":
    _, LOCK, *ARGUMENTS = sys.argv
    install(LOCK)
    from kmsconn.operate.commands.main import main

    sys.exit(main(ARGUMENTS))
