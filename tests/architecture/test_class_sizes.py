"""No class has more than 12 fields or 15 methods."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import attrs

PACKAGE = Path(__file__).parents[2] / "kmsconn"
MOST_FIELDS, MOST_METHODS = 12, 15


@attrs.frozen
class ClassSize:
    """How many fields a class declares or assigns to ``self``, and how many functions its body defines."""

    fields: int
    methods: int

    @property
    def exceeds(self) -> bool:
        """Whether a limit is passed."""
        return self.fields > MOST_FIELDS or self.methods > MOST_METHODS


def size_of(definition: ast.ClassDef) -> ClassSize:
    """Count what stands in a class's own body; what it inherits is counted where it stands."""
    methods = [one for one in definition.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    assigned = {name for method in methods for name in assigned_to_self(method)}
    return ClassSize(len(set(declared_by(definition)) | assigned), len(methods))


def declared_by(definition: ast.ClassDef) -> Iterator[str]:
    """Yield the fields that a class declares with a type, class variables left out."""
    for one in definition.body:
        if (
            isinstance(one, ast.AnnAssign)
            and isinstance(one.target, ast.Name)
            and "ClassVar" not in ast.unparse(one.annotation)
        ):
            yield one.target.id


def assigned_to_self(method: ast.AST) -> Iterator[str]:
    """Yield every attribute of ``self`` that a method assigns."""
    for one in ast.walk(method):
        if (
            isinstance(one, ast.Attribute)
            and isinstance(one.ctx, ast.Store)
            and isinstance(one.value, ast.Name)
            and one.value.id == "self"
        ):
            yield one.attr


@cache
def sizes() -> dict[str, ClassSize]:
    """Return the size of every class of the package, generated ones left out, by module and name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not module.startswith("_generated"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    found[f"{module}.{node.name}"] = size_of(node)
    return found


def test_classes_stay_within_the_limits() -> None:
    """A class has at most 12 fields and 15 methods."""
    above = {name: size for name, size in sizes().items() if size.exceeds}
    assert above == {}


def test_fields_are_counted_once() -> None:
    """A field that is declared and assigned, or assigned twice, is one; a class variable is none."""
    source = """
class Counted:
    shared: ClassVar[int] = 0
    declared: int

    def __init__(self) -> None:
        self.declared = 1
        self.first, self.second = 2, 3

    def again(self) -> None:
        self.first += 1
        other.third = 4
"""
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    assert size_of(definition) == ClassSize(fields=3, methods=2)
