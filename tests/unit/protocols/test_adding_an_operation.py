"""``docs/adding-an-operation.md``, followed: an invented operation in a copy of the package, and what it touches outside its module."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kmsconn.model.requests import Content, Kind
from kmsconn.protocols.fhevm import profile as fhevm
from kmsconn.protocols.httpz_rc7 import profile as httpz_rc7
from kmsconn.protocols.port import Operation

ROOT = Path(__file__).parents[3]
PACKAGE, PAGE = ROOT / "kmsconn", ROOT / "docs" / "adding-an-operation.md"
MODULE = Path(__file__).with_name("key_checks.py")
OUTSIDE = {
    "model/requests.py": (
        ('    KMS_EPOCH_DESTROYED = "kms_epoch_destroyed"', '    KEY_CHECK = "key_check"'),
    ),
    "protocols/fhevm/profile.py": (
        (
            "from kmsconn.protocols.fhevm.key_management import CrsgenAborts, Crsgens, KeygenAborts, valid_pair",
            "from kmsconn.protocols.fhevm.key_checks import KeyChecks",
        ),
        ("    EpochEnds,", "    KeyChecks,"),
    ),
}
"""File of the package → after which line which line is added."""

ROWS: list[type[Operation[Any]]] = [*fhevm.OPERATIONS, *httpz_rc7.OPERATIONS]
OF_EVERY_GENERATION = {
    "model/requests.py",
    "observe/families.py",
    "connector/upkeep.py",
    "operate/doctor/examination.py",
    "operate/doctor/cores.py",
}
"""Where kinds are named beside the modules of their operations: the list of them, labels of metrics, what a late one holds up, and the
request whose reply and ciphertext the doctor tries."""

APART = ("_generated", "emulator", "testing")


def add_line(text: str, after: str, line: str) -> str:
    assert text.count(f"{after}\n") == 1, f"{after!r} stands there once"
    return text.replace(f"{after}\n", f"{after}\n{line}\n")


def copy_with_the_operation(target: Path) -> int:
    """Follow the page in a copy of the package; return how many lines it took outside the new module."""
    copy = target / "kmsconn"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("emulator", "testing"))
    shutil.copy(MODULE, copy / "protocols" / "fhevm" / "key_checks.py")
    for name, lines in OUTSIDE.items():
        file = copy / name
        for after, line in lines:
            file.write_text(add_line(file.read_text(), after, line))
    return sum(map(len, OUTSIDE.values()))


@pytest.mark.slow
def test_an_invented_operation_is_a_module_and_three_lines(tmp_path: Path) -> None:
    assert copy_with_the_operation(tmp_path) == 3
    assert "three lines outside its module" in PAGE.read_text()
    flow = [sys.executable, "-m", "tests.unit.protocols.key_check_flow"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    found = subprocess.run(flow, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("file", [*OUTSIDE, "tests/unit/protocols/key_checks.py"])
def test_the_page_names_every_file(file: str) -> None:
    assert file in PAGE.read_text()


def sources() -> Iterator[tuple[str, str]]:
    """Yield name and text of each module of the package but generated ones, the emulator and testing."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE)
        if name.parts[0] not in APART:
            yield str(name), path.read_text()


SOURCES = dict(sources())


@pytest.mark.parametrize("kind", Kind)
def test_a_kind_is_named_in_the_modules_of_its_operation_and_nowhere_else(kind: Kind) -> None:
    modules = {row.__module__ for row in ROWS if row.kind is kind}
    own = {module.removeprefix("kmsconn.").replace(".", "/") + ".py" for module in modules}
    assert own
    naming = {name for name, text in SOURCES.items() if f"Kind.{kind.name}" in text}
    assert naming - own <= OF_EVERY_GENERATION


def contents(of: type[Any] = Content) -> Iterator[str]:
    for one in of.__subclasses__():
        yield one.__name__
        yield from contents(one)


def classes_asked_for(source: str) -> set[str]:
    """Return the last names of the classes in a module's class patterns and calls of isinstance."""
    nodes = list(ast.walk(ast.parse(source)))
    patterns = [node.cls for node in nodes if isinstance(node, ast.MatchClass)]
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance"]
    asked = [*patterns, *(one for call in calls for one in ast.walk(call.args[1]))]
    return {ast.unparse(one).split(".")[-1] for one in asked}


def test_nobody_asks_a_content_for_its_class() -> None:
    names = {name for name in SOURCES if name.startswith(("protocols/", "requests/", "connector/"))}
    known = set(contents())
    assert [name for name in sorted(names) if classes_asked_for(SOURCES[name]) & known] == []
