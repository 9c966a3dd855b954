"""The documentation is true where a program can tell: its code runs, its links lead somewhere, its tables are those of the code."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import attrs
import pytest
import trio

import kmsconn
import kmsconn.emulator
import kmsconn.testing
from kmsconn.config.options import OPTIONS
from kmsconn.config.sources import load_config
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.model.life import TRANSITIONS
from kmsconn.operate.commands.command import ExitStatus
from kmsconn.operate.commands.main import COMMANDS
from kmsconn.transport.ports import offload_inline
from tests.architecture.test_layers import PACKAGES, WITHOUT_TRIO
from tests.unit.observe.snapshots import EACH
from tools.site_pages import SUBPAGES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DECISIONS = DOCS / "decisions"
PACKAGE = ROOT / "kmsconn"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FILE_IN_CODE = re.compile(r"`([\w/]+\.py)`")
_CODE = re.compile(r"`([^`]+)`")


@cache
def text_of(page: Path) -> str:
    """Return a page."""
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    """Return a page's name for the reports of pytest."""
    return str(page.relative_to(ROOT))


def fences(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a page that are in a language."""
    return [body for found, body in _FENCE.findall(text_of(page)) if found == language]


def section(page: Path, title: str) -> str:
    """Return what stands under a heading of a page, up to the next one of its level."""
    _, _, rest = text_of(page).partition(f"\n## {title}\n")
    assert rest, f"{name_of(page)} has no section {title}"
    return rest.partition("\n## ")[0]


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of all tables in a text, without headings and rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rules = {number for number, line in enumerate(lines) if set(line) <= set("|-: ")}
    kept = [line for number, line in enumerate(lines) if number not in rules and number + 1 not in rules]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in kept]


# --- links


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


def anchors(page: Path) -> set[str]:
    """Return the anchors that headings make."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    """Yield the links within the repository that lead nowhere."""
    for link in _LINK.findall(prose(page)):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                yield link


def test_links_lead_somewhere() -> None:
    assert [(name_of(page), link) for page in PAGES for link in broken_links(page)] == []


def test_every_page_of_docs_is_within_reach_of_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        one = waiting.pop()
        if one not in reached and one.exists():
            reached.add(one)
            links = (link.partition("#")[0] for link in _LINK.findall(prose(one)) if ":" not in link)
            waiting += [(one.parent / link).resolve() for link in links if link.endswith(".md")]
    assert set(PAGES) - reached == set()


_GRACE = re.compile(r"drain_grace`? \((\d+ ?s)[^)]*\)")


def test_the_drain_grace_of_every_page_is_the_default() -> None:
    unit = ROOT / "deploy" / "systemd" / "kmsconn.service"
    told = {(name_of(page), grace) for page in [*PAGES, unit] for grace in _GRACE.findall(text_of(page))}
    default = f"{OPTIONS['drain_grace'].default:.0f} s"
    assert len(told) >= 3, "the pages name it in another form"
    assert {one for one in told if one[1] != default} == set()


def test_the_first_node_serves_every_host_chain_of_its_network(tmp_path: Path) -> None:
    path = tmp_path / "first-node.toml"
    path.write_text("\n".join(fences(DOCS / "first-node.md", "toml")))
    (tmp_path / "wallet.key").write_text(f"{1:064x}")
    settings = load_config(path, environ={})
    assert [str(one) for one in settings.warnings if one.place == "host_chains"] == []


@cache
def paths() -> tuple[str, ...]:
    """Return the Python files of the repository's own folders."""
    folders = ("kmsconn", "tests", "docs", "tools", "bench")
    return tuple(f"/{path.relative_to(ROOT)}" for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_files_that_are_named_exist() -> None:
    named = {(name, name_of(page)) for page in PAGES for name in _FILE_IN_CODE.findall(prose(page))}
    assert [one for one in sorted(named) if not any(path.endswith(f"/{one[0]}") for path in paths())] == []


# --- tables that the code has too


def test_the_life_of_a_request_in_the_text_is_the_literal() -> None:
    rows = table_rows(section(DOCS / "architecture.md", "The life of a request"))
    told: dict[str, Any] = {
        name.strip("`"): (frozenset(sources.split(", ")), target) for name, sources, target, _ in rows
    }
    assert told == {name: (set(sources), target) for name, (sources, target) in TRANSITIONS.items()}


def test_the_packages_in_the_text_are_those_of_the_layers_in_their_order() -> None:
    rows = [cells[0] for cells in table_rows(section(DOCS / "architecture.md", "The packages"))]
    assert [row.split("`")[1] for row in rows] == list(PACKAGES)
    assert {row.split("`")[1] for row in rows if "◦" in row} == WITHOUT_TRIO


def test_the_route_of_a_request_is_ten_functions_that_exist() -> None:
    rows = table_rows(section(DOCS / "architecture.md", "The route of a request"))
    steps = [cells for cells in rows if cells[1].count("`") == 4]
    assert len(steps) == 10
    for _, cell, _ in steps:
        path, name = cell.replace("`", "").split()
        found: object = importlib.import_module(f"kmsconn.{path.removesuffix('.py').replace('/', '.')}")
        for part in name.split("."):
            found = getattr(found, part)
        assert inspect.iscoroutinefunction(found), cell


def test_every_event_is_explained() -> None:
    rows = table_rows(section(DOCS / "embedding.md", "Events"))
    assert [cells[0].strip("`") for cells in rows] == [type(event).__name__ for event in EACH]


def test_the_methods_of_a_connector_that_are_told_are_there() -> None:
    rows = table_rows(section(DOCS / "embedding.md", "The connector"))
    told = {cells[0].strip("`").removeprefix("await ").removesuffix("()") for cells in rows if cells[0]}
    there = {name for name, _ in inspect.getmembers(kmsconn.Connector, inspect.isfunction) if name[0] != "_"}
    assert told == there - {"run"}


def test_the_readme_names_every_command_and_exit_status() -> None:
    rows = table_rows(section(ROOT / "README.md", "Running it"))
    commands = {name.strip("`"): words for name, words, *_ in rows if name.startswith("`")}
    assert commands == COMMANDS
    told = [cells[0].split(", ") for cells in rows if not cells[0].startswith("`")]
    assert [*chain(*told)] == [str(status.value) for status in ExitStatus]


def test_the_options_of_the_quickstart_exist() -> None:
    rows = table_rows(section(DOCS / "quickstart.md", "A configuration of your own"))
    named = {name for cells in rows for name in _CODE.findall(cells[0])}
    assert named
    assert named - set(OPTIONS) == set()


def test_make_targets_that_are_told_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    told = {
        name
        for page in PAGES
        for name in re.findall(r"^(?:\$ )?make ([a-z-]+)\b", text_of(page), re.MULTILINE)
    }
    assert told - targets == set()


# --- decisions


def test_the_index_of_decisions_is_complete() -> None:
    rows = [cells[:2] for cells in table_rows(text_of(DECISIONS / "README.md"))]
    pages = [page for page in sorted(DECISIONS.glob("*.md")) if page.name != "README.md"]
    titles = [text_of(page).partition("\n")[0].removeprefix("# ").split(" · ") for page in pages]
    assert rows == [
        [f"[{number}]({page.name})", title] for page, (number, title) in zip(pages, titles, strict=True)
    ]


@pytest.mark.parametrize("page", sorted(DECISIONS.glob("[0-9]*.md")), ids=name_of)
def test_a_decision_has_its_number_a_status_and_its_three_parts(page: Path) -> None:
    assert text_of(page).startswith(f"# {page.name[:4]} · ")
    assert re.search(
        r"^Status: (accepted|superseded by \[\d{4}\]\(\d{4}-[\w-]+\.md\))\.$", text_of(page), re.MULTILINE
    )
    assert re.findall(r"^## (.+)$", text_of(page), re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(page.name[:4]) for page in sorted(DECISIONS.glob("[0-9]*.md"))]
    assert numbers == [*range(1, len(numbers) + 1)]


# --- error texts: what stands between the gaps of a text is in the source


@cache
def source() -> str:
    """Return all source text, with literals joined that are written in pieces."""
    whole = "\n".join(path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py")))
    return re.sub(r'"\s*\n\s*f?"', "", whole)


VARIABLE = (  # what stands in a text of an error for this run, or comes from elsewhere
    "…", "tx sender … there", "acc.toml", "0644", "54321", "54322", "Address already in use", "file is not a database", "httpz-rc7",
    "fhevm", "core[0]", "aws_kms_config.key_id", "task_limit", "pools.public_decryption and pools.user_decryption", "private_key",
    "all attempts to connect to", "failed", "private_key_file, or KMS_CONNECTOR_PRIVATE_KEY", "gateway", "warning: ", "checks", "funds",
    "journal: ", "261131", "AWS kms", "database disk image is malformed",
)  # fmt: skip


def told_errors() -> list[str]:
    """Return the texts in the first columns of the tables of errors."""
    return [
        _CODE.findall(cells[0])[0] for cells in table_rows(section(DOCS / "quickstart.md", "Common errors"))
    ]


@pytest.mark.parametrize("told", told_errors())
def test_an_error_in_the_quickstart_is_one_of_the_program(told: str) -> None:
    """Cut at everything that differs from run to run; what is left must stand in the source."""
    cuts = "|".join(re.escape(text) for text in sorted(VARIABLE, key=len, reverse=True))
    pieces = [piece.strip(" :;,()") for piece in re.split(f"{cuts}|: |; ", told)]
    assert [piece for piece in pieces if piece and piece not in source()] == []


# --- code


def python_blocks() -> list[Any]:
    """Return every Python block of every page with a name for it."""
    return [
        pytest.param(block, id=f"{name_of(page)}-{number}")
        for page in PAGES
        for number, block in enumerate(fences(page, "python"), start=1)
    ]


def is_excerpt(block: str) -> bool:
    """Say whether a block stands in an example, at whatever depth."""
    examples = [example.read_text(encoding="utf-8") for example in EXAMPLES]
    return any(textwrap.dedent(block) in example or block in example for example in examples)


@pytest.fixture
async def small_world(tmp_path: Path) -> Any:
    """Give a configuration and ports for a connector among emulated dependencies, in virtual time."""
    dependencies, network = FhevmDependencies.make(trio.current_time), MemoryNetwork()
    dependencies.settle_in_memory(network)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        await nursery.start(dependencies.run)
        ports = kmsconn.Ports(network, offload_inline, trio.current_time, Random(0).random)
        yield dependencies.settings(tmp_path / "journal.db"), ports
        nursery.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("block", python_blocks())
async def test_a_python_block_runs(block: str, small_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What defines asynchronous functions of a configuration and ports has these called; excerpts of an example run there."""
    if is_excerpt(block):
        return
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {"__name__": "docs"}
    exec(compile(block, "docs", "exec", dont_inherit=True), names)  # noqa: S102 - our own documentation
    for value in list(names.values()):
        if inspect.iscoroutinefunction(value):
            with trio.fail_after(300):
                await value(*small_world)


async def test_the_way_to_tell_a_refusal_works(small_world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    config, ports = small_world
    (block,) = [one for one in fences(DOCS / "embedding.md", "python") if "except*" in one]
    names: dict[str, Any] = {}
    exec(compile(block, "docs", "exec", dont_inherit=True), names)  # noqa: S102 - our own documentation
    await names["told_apart"](config.but(gateway=attrs.evolve(config.chains.gateway, chain_id=1)), ports)
    assert "is on chain 54321, configured is 1" in capsys.readouterr().out


def load_example(name: str) -> ModuleType:
    """Import an example from its file."""
    found = importlib.util.spec_from_file_location(f"example_{name}", DOCS / "examples" / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.slow
async def test_the_example_gets_its_replies_included_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    example = load_example("embedded")
    with trio.fail_after(300):
        await example.main()
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("ReplyIncluded(") for line in lines) == example.REQUESTS
    assert lines[-1].startswith("Statistics(ready=True, draining=True")


@pytest.mark.slow
async def test_the_supervisor_starts_a_crashed_connector_again_and_drains_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with trio.fail_after(300):
        await load_example("supervised").main()
    assert capsys.readouterr().out == "healthy: True; crashes: 1\n"


async def test_the_supervisor_does_not_repeat_a_refused_start(small_world: Any) -> None:
    config, ports = small_world
    foreign = config.but(gateway=attrs.evolve(config.chains.gateway, chain_id=1))
    supervisor = load_example("supervised").Supervisor(foreign, ports, lambda _: None)
    with trio.fail_after(300), pytest.RaisesGroup(kmsconn.StartRefused, flatten_subgroups=True):
        await supervisor.run()
    assert supervisor.crashes == []


async def test_the_supervisor_waits_longer_after_each_crash(small_world: Any) -> None:
    """Ten crashes in a row: 2, 4, 8, 16, 32 seconds, then a minute each."""
    config, ports = small_world
    module = load_example("supervised")

    def broken(_: kmsconn.Event) -> None:
        raise RuntimeError("a planted error")

    supervisor = module.Supervisor(config, ports, broken)
    with trio.move_on_after(300) as scope:
        await supervisor.run()
    assert scope.cancelled_caught
    assert 6 <= len(supervisor.crashes) <= 10


# --- the site


def test_every_page_has_its_place_on_the_site() -> None:
    """``make site`` would say so too, half a minute later: an entry of docs/index.rst, or a folder that stands beneath one."""
    entries_ = re.findall(r"^   (?:.* <)?([\w/-]+)>?$", text_of(DOCS / "index.rst"), re.MULTILINE)
    beneath = [path for folder in SUBPAGES.values() for path in DOCS.rglob(f"{folder}.md")]
    placed = {DOCS / f"{one}{suffix}" for one in entries_ for suffix in (".md", ".rst")} | {*beneath}
    pages = {*DOCS.rglob("*.md"), *DOCS.rglob("*.rst")} - {DOCS / "index.rst"}
    assert sorted(name_of(page) for page in pages - placed) == []


# --- the reference


@pytest.mark.parametrize(
    ("package", "names"),
    [
        pytest.param("kmsconn", kmsconn.__all__, id="kmsconn"),
        pytest.param("testing", kmsconn.testing.__all__, id="kmsconn.testing"),
        pytest.param("emulator", kmsconn.emulator.__all__, id="kmsconn.emulator"),
    ],
)
def test_the_reference_has_every_public_name(package: str, names: list[str]) -> None:
    page = (DOCS / "reference" / "api" / f"{package}.rst").read_text(encoding="utf-8")
    there = set(re.findall(r"^\.\. (?:auto|py:)\w+:: ([\w.]+)", page, re.MULTILINE))
    full = package if package == "kmsconn" else f"kmsconn.{package}"
    assert {f"{full}.{name}" for name in names if name != "__version__"} - there == set()


@pytest.mark.parametrize("module", [kmsconn, kmsconn.testing, kmsconn.emulator], ids=lambda one: one.__name__)
def test_every_public_name_can_be_imported(module: ModuleType) -> None:
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert set(module.__all__) <= set(dir(module))
    assert not hasattr(module, "no_such_name")
