"""The page about the peers claims no more cases than there are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.real.peer_cases import HEADING, PEERS, line, met, note, peers_of

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| \*\*([\w-]+)\*\* \|.*\| (\d+) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def there() -> dict[str, int]:
    """How many cases the suite holds, by peer, as a collection tells it."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/real"]
    everything = {**os.environ, "KMSCONN_LONG": "all"}
    said = subprocess.run(  # noqa: S603
        command, cwd=ROOT, env=everything, capture_output=True, text=True, check=True
    ).stdout
    [told] = [each for each in said.splitlines() if each.startswith(HEADING)]
    return {peer: int(cases) for peer, cases in re.findall(r"([\w-]+) (\d+)", told.removeprefix(HEADING))}


def claimed() -> dict[str, int]:
    page = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
    return {peer: int(cases) for peer, cases in _ROW.findall(page)}


def test_every_peer_has_its_row() -> None:
    assert tuple(claimed()) == PEERS


def test_the_page_claims_no_more_cases_than_the_suite_holds(there: dict[str, int]) -> None:
    assert {peer: cases for peer, cases in claimed().items() if not 0 < cases <= there[peer]} == {}


def item(name: str, *fixtures: str, **parameters: object) -> Any:
    """Return what pytest knows of a test, as far as it counts here."""
    call = SimpleNamespace(params=parameters)
    return SimpleNamespace(originalname=name, fixturenames=fixtures, callspec=call, user_properties=[])


@pytest.mark.parametrize(
    ("test", "peers"),
    [
        (item("test_a", "tmp_path"), set()),
        (item("test_a", "postgresql_programs"), {"postgresql"}),
        (item("test_a", "anvil", "node_tkms"), {"anvil", "node-tkms"}),
        (item("test_a", "store", store="moto", size=7), {"moto"}),
        (item("test_a", "store", store="emulated"), set()),
        (item("test_grpcio_calls"), {"grpcio"}),
        (item("test_another_than_grpcio_calls"), set()),
    ],
)
def test_fixtures_parameters_and_name_say_whom_a_test_meets(test: Any, peers: set[str]) -> None:
    assert peers_of(test) == peers


def test_reports_say_whom_their_tests_met() -> None:
    test = item("test_grpclib_calls", "anvil")
    note([test])
    report = pytest.TestReport(
        "", ("", 0, ""), {}, "passed", None, "call", user_properties=test.user_properties
    )
    assert met([report, report]) == Counter({"grpclib": 2, "anvil": 2})


def test_the_line_has_the_peers_that_were_met_in_their_order() -> None:
    assert line(Counter(moto=3, anvil=2)) == f"{HEADING}anvil 2, moto 3"
