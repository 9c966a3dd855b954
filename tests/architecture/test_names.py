"""A class name has one meaning in the whole product: whoever reads it need not look where it comes from."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.architecture.test_layers import PACKAGE, module_name


def test_no_two_classes_share_a_name() -> None:
    """Private classes, which nobody outside of their module reads, and generated messages, whose names are the Core's, apart."""
    modules = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        if "_generated" not in path.parts:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    modules[node.name].append(module_name(path))
    assert {name: found for name, found in modules.items() if len(found) > 1} == {}
