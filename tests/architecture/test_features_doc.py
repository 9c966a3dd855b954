"""``docs/features.md`` has every row, and every proof that it names exists."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.behaviours import PEERS, shown_by, table
from tests.real import test_grpc_connections, test_grpc_peers
from tests.unit.transport.grpc import test_grpc_channel, test_grpc_framing, test_grpc_http2, test_grpc_link

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "features.md"
STATES = {"yes", "corrected", "part", "not yet", "–"}
PROVED = {"yes", "corrected", "part"}
GENERATION = [
    *range(9, 39), 42, *range(46, 50), *range(55, 67), 70, *range(74, 77), *range(82, 92), 95, 99, 100, *range(106, 115), 118,
    *range(122, 125), *range(130, 146), 149, *range(153, 158),
]  # fmt: skip
PLACEHOLDERS = {42, 70, 95, 118, 149}
PRODUCT = list(range(1, 34))
_QUOTED = re.compile(r"`([^`]+)`")
_TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


@cache
def tables() -> list[list[list[str]]]:
    """Return the rows of both tables, without their heads: number, subject, state, place, proof."""
    found: list[list[list[str]]] = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith(("| L ", "| # ")):
            found.append([])
        elif line.startswith("|") and not line.startswith("|-"):
            found[-1].append(cells)
    return found


ROWS = [row for table in tables() for row in table]


def test_no_row_is_missing() -> None:
    assert [[int(row[0]) for row in table] for table in tables()] == [GENERATION, PRODUCT]


def test_a_row_that_is_there_has_a_proof_and_one_that_is_not_claims_none() -> None:
    assert {state for _, _, state, _, _ in ROWS} <= STATES
    assert [row for row in ROWS if bool(_QUOTED.findall(row[4])) != (row[2] in PROVED)] == []


def test_placeholders_name_nothing() -> None:
    assert {int(row[0]) for row in tables()[0] if row[2] == "–"} == PLACEHOLDERS


def test_every_proof_exists() -> None:
    named = [(row[0], proof) for row in ROWS for proof in _QUOTED.findall(row[4])]
    assert [(row, proof) for row, proof in named if not exists(proof)] == []


def test_every_place_exists() -> None:
    named = [(row[0], place) for row in ROWS for place in _QUOTED.findall(row[3])]
    paths = [(row, place) for row, place in named if "/" in place or place.endswith(".py")]
    assert [
        one for one in paths if not any((base / one[1]).exists() for base in (ROOT, ROOT / "kmsconn"))
    ] == []


def exists(proof: str) -> bool:
    """Say whether a test, a file of tests, a target of make or a command of ours is there."""
    if proof.startswith("make "):
        return f"\n{proof.removeprefix('make ')}:" in (ROOT / "Makefile").read_text()
    if proof.startswith("kmsconn "):
        return (ROOT / "kmsconn" / "cli" / f"{proof.split()[1]}.py").exists()
    path, _, name = proof.partition("::")
    file = ROOT / "tests" / path
    return file.exists() and (not name or name in _TEST.findall(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "wrong", ["make nothing", "kmsconn nothing", "unit/none.py", "httpz/test_rows.py::test_row_000"]
)
def test_what_is_not_there_is_found_out(wrong: str) -> None:
    assert not exists(wrong)


def test_every_test_of_the_rows_is_named_in_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    names = _TEST.findall((ROOT / "tests" / "httpz" / "test_rows.py").read_text(encoding="utf-8"))
    assert [name for name in names if name not in text] == []


OUTCOMES = (ROOT / "docs" / "outcomes.md").read_text(encoding="utf-8")
_CELL = re.compile(r"(?<!\\)\|")
_FILE = re.compile(r"`([\w/]+\.py)`")
HEADER = ["situation", "outcome", "where", "test"]


def cells_of(line: str) -> list[str]:
    """Return the cells of a line of a table."""
    return [cell.strip() for cell in _CELL.split(line)[1:-1]]


def rows() -> list[list[str]]:
    """Return the rows of every table that says where and how it is shown."""
    found, inside = [], False
    for line in OUTCOMES.splitlines():
        inside = (inside and line.startswith("|")) or (line.startswith("|") and cells_of(line) == HEADER)
        if inside and cells_of(line) != HEADER and not line.startswith("|---"):
            found.append(cells_of(line))
    return found


def test_there_is_a_table() -> None:
    assert len(rows()) > 40


def complete(row: list[str]) -> bool:
    """Say whether a row has an outcome, and modules and tests that exist."""
    _, outcome, where, test = row
    modules, tests = _FILE.findall(where), _FILE.findall(test)
    files = [*(ROOT / "kmsconn" / name for name in modules), *(ROOT / "tests" / name for name in tests)]
    return bool(outcome and modules and tests) and all(file.is_file() for file in files)


def test_every_row_names_modules_and_tests_that_exist() -> None:
    assert [row for row in rows() if not complete(row)] == []


DOC = Path(__file__).parents[2] / "docs" / "grpc.md"
MODULES = (
    test_grpc_peers,
    test_grpc_connections,
    test_grpc_channel,
    test_grpc_link,
    test_grpc_http2,
    test_grpc_framing,
)


def test_the_table_of_behaviours_is_what_tests_show() -> None:
    """Where it fails, put the table that it expects into the document."""
    assert table(shown_by(MODULES)) in DOC.read_text(encoding="utf-8")


def test_every_peer_shows_something() -> None:
    assert {peer for shown in shown_by(MODULES) for peer in shown.peers} == set(PEERS)


def test_what_real_peers_show_runs_with_each_of_them() -> None:
    for module in MODULES[:2]:
        for test in vars(module).values():
            peers = {peer for shown in getattr(test, "shown", []) for peer in shown.peers}
            runs = {
                peer
                for mark in getattr(test, "pytestmark", [])
                if mark.args[0] == "library"
                for peer in mark.args[1]
            }
            assert peers == runs
