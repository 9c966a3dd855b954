"""Imports point down: operate knows everything, errors know nobody; a class name has one meaning, and no class is too large."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kmsconn"
PACKAGES = (
    "__main__",
    "testing",
    "emulator",
    "operate",
    "observe",
    "connector",
    "serving",
    "requests",
    "replies",
    "ciphertexts",
    "core",
    "journal",
    "chain",
    "protocols",
    "config",
    "transport",
    "model",
    "ethereum",
    "extras",
    "frozen",
    "errors",
)
"""From the top down: a package may import those after it, and its own modules."""
WITHOUT_TRIO = frozenset({"protocols", "config", "model", "ethereum", "extras", "frozen", "errors"})
"""Packages that never import Trio, nor anything that runs on it."""
MODULES_WITHOUT_TRIO = frozenset(
    {
        "kmsconn.journal.audit",
        "kmsconn.requests.cursor",
        "kmsconn.chain.logs",
        "kmsconn.chain.port",
        "kmsconn.chain.websocket_wire",
        "kmsconn.ciphertexts.attestation",
        "kmsconn.ciphertexts.places",
        "kmsconn.journal.recording",
        "kmsconn.journal.database",
        "kmsconn.journal.rows",
        "kmsconn.journal.inspecting",
        "kmsconn.journal.moves",
        "kmsconn.journal.postgres",
        "kmsconn.journal.postgres_servers",
        "kmsconn.journal.postgres_schema",
        "kmsconn.journal.postgres_session",
        "kmsconn.journal.queries",
        "kmsconn.journal.retention",
        "kmsconn.journal.schema",
        "kmsconn.journal.sqlite",
        "kmsconn.journal.sqlite_faults",
        "kmsconn.transport.grpc.frames",
        "kmsconn.transport.grpc.framing",
        "kmsconn.transport.grpc.headers",
        "kmsconn.transport.grpc.http2",
        "kmsconn.core.statuses",
        "kmsconn.serving.keys",
        "kmsconn.serving.wire",
        "kmsconn.transport.certificates",
        "kmsconn.transport.grpc.streams",
        "kmsconn.observe.families",
        "kmsconn.observe.status",
        "kmsconn.observe.logs",
        "kmsconn.observe.monitor",
        "kmsconn.observe.tally",
        "kmsconn.observe.timelines",
        "kmsconn.transport.urls",
        "kmsconn.transport.http11",
        "kmsconn.transport.proxies",
        "kmsconn.replies.answers",
        "kmsconn.replies.plan",
        "kmsconn.replies.table",
        "kmsconn.replies.fees",
        "kmsconn.requests.decoding",
        "kmsconn.requests.failures",
        "kmsconn.requests.rows",
    }
)
"""The sans-IO modules of the other packages (◦ in the design)."""
IO_LIBRARIES = frozenset({"trio", "trio_websocket", "httpx2", "asyncio", "anyio"})
HTTP_MODULE = "kmsconn.transport.http"


def module_name(path: Path) -> str:
    """Return the dotted name of a file of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Return every module of ours but the generated ones and the package's own ``__init__``."""
    found = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
    return {name: path for name, path in found.items() if "._generated" not in name and name != "kmsconn"}


def imported_names(tree: ast.AST, *, types_too: bool = True) -> Iterator[str]:
    """Yield what is imported anywhere, each name of ``from a import b`` as ``a.b``; with or without ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif types_too or not is_for_types(node):
            yield from imported_names(node, types_too=types_too)


def is_for_types(node: ast.AST) -> bool:
    """Say whether a statement is ``if TYPE_CHECKING``."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@cache
def parsed(name: str) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


@cache
def imports(name: str, *, types_too: bool = True) -> frozenset[str]:
    """Return the modules of ours that a module imports, itself left out."""
    known = modules()
    found = set()
    for imported in imported_names(parsed(name), types_too=types_too):
        module = imported if imported in known else imported.rpartition(".")[0]
        if module in known and module != name:
            found.add(module)
    return frozenset(found)


def package_of(name: str) -> str:
    """Return the package of a module."""
    return name.split(".")[1]


@cache
def libraries(name: str) -> frozenset[str]:
    """Return the top-level packages that a module imports itself."""
    return frozenset(imported.partition(".")[0] for imported in imported_names(parsed(name)))


def test_every_module_is_in_a_known_package() -> None:
    assert {package_of(name) for name in modules()} == set(PACKAGES)


def points_up(name: str, imported: str) -> bool:
    """Say whether an import leads to a package above the module's own."""
    return PACKAGES.index(package_of(imported)) < PACKAGES.index(package_of(name))


def test_imports_point_down() -> None:
    assert [(name, one) for name in modules() for one in sorted(imports(name)) if points_up(name, one)] == []


def test_nothing_but_the_test_kit_knows_the_emulator() -> None:
    users = {package_of(name) for name in modules() for one in imports(name) if package_of(one) == "emulator"}
    assert users <= {"testing", "emulator"}


def test_there_is_no_import_cycle() -> None:
    """At run time; two modules of one package may name each other's types."""
    graph = {name: imports(name, types_too=False) for name in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"cycle: {' → '.join(error.args[1])}")


@cache
def reachable(name: str) -> frozenset[str]:
    """Return the modules that a module pulls in at run time, itself included."""
    found, waiting = set[str](), [name]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(imports(one, types_too=False))
    return frozenset(found)


def test_sans_io_modules_import_no_io_library() -> None:
    assert modules().keys() >= MODULES_WITHOUT_TRIO
    pure = [name for name in modules() if package_of(name) in WITHOUT_TRIO or name in MODULES_WITHOUT_TRIO]
    assert [name for name in pure if libraries(name) & IO_LIBRARIES] == []


def test_a_sans_io_package_pulls_in_no_module_that_imports_trio() -> None:
    names = [name for name in modules() if package_of(name) in WITHOUT_TRIO]
    assert [(n, one) for n in names for one in reachable(n) if libraries(one) & IO_LIBRARIES] == []


def test_http_is_read_by_its_client_and_where_a_tunnel_opens() -> None:
    knowing = {name for name in modules() if "kmsconn.transport.http11" in imports(name)}
    assert knowing == {HTTP_MODULE, "kmsconn.transport.dialling"}


def test_one_module_knows_the_library_of_websockets() -> None:
    """Of the product; the emulator has the server's end."""
    knowing = {name for name in modules() if "wsproto" in libraries(name)}
    assert knowing == {"kmsconn.chain.websocket_wire", "kmsconn.emulator.websocket"}


def test_nobody_uses_another_event_loop() -> None:
    assert {name for name in modules() if libraries(name) & {"asyncio", "anyio", "threading"}} == set()


def test_a_module_begins_by_saying_what_it_holds() -> None:
    assert [name for name in modules() if not ast.get_docstring(parsed(name))] == []


def test_the_grpc_library_knows_of_ours_the_errors_only() -> None:
    """It can be given away: another project needs nothing else of this one."""
    library = "kmsconn.transport.grpc"
    imported = {
        name
        for module in modules()
        if module.startswith(library)
        for name in imported_names(parsed(module))
        if name.startswith("kmsconn.") and not name.startswith(library)
    }
    assert {name.rpartition(".")[0] for name in imported} == {"kmsconn.errors"}


def test_a_program_begins_where_its_module_ends() -> None:
    """What stands behind the guard of a program is not defined yet when the program runs."""
    root = PACKAGE.parent
    programs = [
        (path.relative_to(root), ast.parse(path.read_text()).body)
        for folder in ("bench", "kmsconn", "tests", "tools")
        for path in (root / folder).rglob("*.py")
        if '\nif __name__ == "__main__"' in path.read_text()
    ]
    cut = [
        str(path)
        for path, body in programs
        if not isinstance(body[-1], ast.If) or "__main__" not in ast.unparse(body[-1].test)
    ]
    assert programs
    assert cut == []


def test_no_two_classes_share_a_name() -> None:
    """Private classes, which nobody outside of their module reads, and generated messages, whose names are the Core's, apart."""
    modules = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        if "_generated" not in path.parts:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    modules[node.name].append(module_name(path))
    assert {name: found for name, found in modules.items() if len(found) > 1} == {}


MODULES = Path(__file__).parents[2] / "kmsconn"
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
    for path in sorted(MODULES.rglob("*.py")):
        module = ".".join(path.relative_to(MODULES).with_suffix("").parts)
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
