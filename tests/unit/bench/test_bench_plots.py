"""Pictures are made from a result file alone."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from bench.__main__ import PARAMETERS, Found, parser, report
from bench.machine import write_report
from bench.offering import Climb
from bench.plots import draw
from bench.proc import Sample
from tests.unit.bench.test_bench_table import CASE, USED

PNG = b"\x89PNG"
SAMPLES = {"connector": [Sample(float(at), at / 10, 1 << 26, 30) for at in range(60)]}


@pytest.fixture(autouse=True)
def _folder_of_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))


@pytest.mark.slow
def test_a_benchmark_has_latency_against_load_and_memory(tmp_path: Path) -> None:
    lost = attrs.evolve(CASE, outcome=attrs.evolve(CASE.outcome, offered_rate=50.0, sustained=False))
    climbs = {65536: Climb({"connector": USED}, [CASE, lost], SAMPLES)}
    path = tmp_path / "result.json"
    arguments = parser().parse_args([])
    write_report(path, arguments, PARAMETERS, report(arguments, Found(climbs, {}, [])))
    pictures = draw(path)
    assert [picture.name for picture in pictures] == ["result-load.png", "result-memory.png"]
    assert all(picture.read_bytes().startswith(PNG) for picture in pictures)


@pytest.mark.slow
def test_a_soak_has_its_time(tmp_path: Path) -> None:
    columns = {"at": list(range(60)), "resident": [1 << 26] * 60, "descriptors": [30] * 60, "cpu": [0] * 60}
    found = {
        "machine": {"commit": "c", "cpu": "x", "date": "2026-01-01T00:00:00"},
        "connector": "kmsconn",
        "verdict": {},
        "samples": {"connector": columns, "emulator": columns},
        "requests": [[at / 2, at / 2 + 0.25] for at in range(100)] + [[50.0, None]],
        "happened": [{"at": 20.0, "name": "node gone"}, {"at": 22.0, "name": "node gone no more"}],
    }
    path = tmp_path / "soak.json"
    path.write_text(json.dumps(found))
    (picture,) = draw(path)
    assert (picture.name, picture.read_bytes()[:4]) == ("soak-time.png", PNG)
