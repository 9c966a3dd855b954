"""What is installed beside a signing key: docs/dependencies.md, the lock files, pyproject.toml and the imports say the same."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, requires

from kmsconn.extras import EXTRAS
from tests.architecture.test_docs import DOCS, ROOT, section, table_rows, text_of
from tests.architecture.test_layers import imported_names, modules, package_of, parsed
from tests.installations import locked, packages_of

PAGE = DOCS / "dependencies.md"
MOST = 40
OF_AWS = frozenset({"kmsconn.transport.aws", "kmsconn.transport.aws_credentials", "kmsconn.replies.wallet"})
"""The modules that import the packages of the extra aws, inside functions."""

OF_POSTGRES = frozenset(
    (
        "kmsconn.journal.postgres",
        "kmsconn.journal.postgres_session",
        "kmsconn.journal.postgres_side",
        "kmsconn.journal.postgres_servers",
        "kmsconn.operate.doctor.postgres",
    )
)
"""The modules that import the packages of the extra postgres: the doctor's inside functions, the others are imported inside one."""

OF_OTEL = frozenset({"kmsconn.observe.tracing"})
"""The module that imports the packages of the extra otel, inside a function."""

_NAME = re.compile(r"[\w.-]+")
_EXTRAS = re.compile(r"kmsconn\[(.+?)\]")


def normal(name: str) -> str:
    """Return the name of a distribution as lock files write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> list[str]:
    """Return the distributions that requirements ask for, without versions."""
    return [normal(found[0]) for one in requirements if (found := _NAME.match(one))]


@cache
def project() -> Mapping[str, object]:
    """Return what pyproject.toml says of the package."""
    found: Mapping[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    return found


@cache
def declared() -> list[str]:
    """Return what the base installation asks for by name."""
    asked = project()["dependencies"]
    assert isinstance(asked, list)
    return names(asked)


@cache
def declared_extras() -> dict[str, list[str]]:
    """Return what each extra asks for by name; one that takes another in has its packages too."""
    asked = project()["optional-dependencies"]
    assert isinstance(asked, dict)
    found = {extra: names(wanted) for extra, wanted in asked.items()}
    taken = {extra: re.findall(r"\w+", " ".join(_EXTRAS.findall(" ".join(asked[extra])))) for extra in asked}
    return {
        extra: sorted({name for one in (extra, *taken[extra]) for name in found[one]} - {"kmsconn"})
        for extra in found
    }


@cache
def imported(distributions: tuple[str, ...]) -> frozenset[str]:
    """Return what distributions are imported as."""
    return frozenset[str]().union(*map(packages_of, distributions))


def rows() -> dict[str, str]:
    """Return who imports each package of the base installation, as the page says it."""
    found = table_rows(section(PAGE, "The base installation"))
    return {package.strip("`"): by.strip("`") for package, by, _ in found}


def third_party(name: str) -> set[str]:
    """Return what a module imports that is neither the standard library nor ours, inside its functions too."""
    found = {one.partition(".")[0] for one in imported_names(parsed(name))}
    return found - sys.stdlib_module_names - {"kmsconn"}


def allowed(name: str) -> frozenset[str]:
    """Return what a module may import; botocore comes with aiobotocore, in a version that it names."""
    base = imported(tuple(declared()))
    if name in OF_AWS:
        extra = "aws"
    elif name in OF_OTEL:
        extra = "otel"
    elif name in OF_POSTGRES:
        extra = "postgres"
    elif name in {"kmsconn.emulator.commands.demo", "kmsconn.emulator.commands.demo_view"}:
        extra = "emulator"
    elif name in {"kmsconn.operate.commands.checking", "kmsconn.operate.commands.top_view"}:
        extra = "top"
    else:
        extra = package_of(name)
    found = base | imported(tuple(declared_extras().get(extra, ())))
    return found | {"botocore"} if "aiobotocore" in found else found


def requirements_of(name: str) -> list[str]:
    """Return what a distribution requires, on whatever platform; cffi is not on every one."""
    try:
        return names(requires(name) or [])
    except PackageNotFoundError:
        return ["pycparser"] if name == "cffi" else []


def test_the_page_has_every_package_of_the_lock_file_and_no_other() -> None:
    assert list(rows()) == sorted(locked("run.txt"))


def test_the_base_installation_is_small() -> None:
    assert len(locked("run.txt")) <= MOST


def test_what_is_asked_for_by_name_is_what_modules_import() -> None:
    assert sorted(declared()) == [name for name, by in rows().items() if by.endswith(".py")]


def test_the_module_that_is_named_imports_it() -> None:
    named = {
        name: by.removesuffix(".py").replace("/", ".") for name, by in rows().items() if by[-3:] == ".py"
    }
    assert {package_of(f"kmsconn.{module}") for module in named.values()} & {"emulator", "testing"} == set()
    assert [n for n, m in named.items() if not packages_of(n) & third_party(f"kmsconn.{m}")] == []


def test_the_package_that_is_named_requires_it() -> None:
    named = {name: by for name, by in rows().items() if by[-3:] != ".py"}
    assert [(name, by) for name, by in named.items() if name not in requirements_of(by)] == []


def test_a_module_imports_what_its_installation_has() -> None:
    assert [(name, missing) for name in modules() if (missing := third_party(name) - allowed(name))] == []


def test_each_extra_looks_for_the_packages_it_installs() -> None:
    assert set(declared_extras()) == set(EXTRAS)
    for extra, asked in declared_extras().items():
        assert all(packages_of(name) & set(EXTRAS[extra]) for name in asked)
        assert set(EXTRAS[extra]) <= imported(tuple(asked))


def test_the_page_has_the_extras() -> None:
    told = {row[0].strip("`"): row[2] for row in table_rows(text_of(PAGE).partition("## Installing")[0])}
    asked = declared_extras()
    alone = ("aws", "emulator", "otel", "postgres")
    assert {extra: re.findall("`([^`]+)`", told[extra]) for extra in alone} == {
        extra: asked[extra] for extra in alone
    }
    assert told["testing"] == "those of `aws` and `emulator`, and `hypothesis`"
    assert set(asked["testing"]) == {*asked["aws"], *asked["emulator"], "hypothesis"}


CONNECTOR = """
import sys
from tests.installations import install
install("run.txt")
limit = sys.getrecursionlimit()
from kmsconn.operate.commands.main import make_parser
import kmsconn.connector.connector, kmsconn.operate.control.server
from kmsconn.ethereum.mnemonics import TEST_PHRASE, key_of_phrase
from kmsconn.ethereum.signing import PrivateKey
make_parser()
PrivateKey(key_of_phrase(TEST_PHRASE, 0)).sign(bytes(32))
assert sys.getrecursionlimit() == limit
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_a_connector_and_its_key_load_every_package_and_leave_the_recursion_limit() -> None:
    """Before Python 3.12 the limit guards the C stack: a library raised it, and a JSON answer nested deeply ended the process.

    Keccak-256 comes from pycryptodome only where OpenSSL has none.
    """
    command = [sys.executable, "-c", CONNECTOR]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)  # noqa: S603 - our own code
    loaded = set(run.stdout.split())
    assert [name for name in declared() if not packages_of(name) & loaded] in ([], ["pycryptodome"])
