"""The alert rules as Prometheus reads them: they are valid, each alert is firing in its scene, and a quiet chain raises none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"


def run(promtool: Path, *arguments: str, folder: Path = FOLDER) -> tuple[int, str]:
    """Run promtool; return its status and what it said."""
    done = subprocess.run(  # noqa: S603
        [promtool, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_rules_are_valid(promtool: Path) -> None:
    status, said = run(promtool, "check", "rules", "kmsconn.rules.yml")
    assert status == 0, said
    assert "SUCCESS" in said


@pytest.mark.rotating
def test_each_alert_is_firing_in_its_scene_and_none_on_a_quiet_chain(promtool: Path) -> None:
    status, said = run(promtool, "test", "rules", "kmsconn.rules.test.yml")
    assert status == 0, said


def test_a_rule_that_looks_elsewhere_fails_its_scene(promtool: Path, tmp_path: Path) -> None:
    """Else the scenes would prove nothing."""
    rules = (FOLDER / "kmsconn.rules.yml").read_text(encoding="utf-8")
    (tmp_path / "kmsconn.rules.yml").write_text(rules.replace("kmsconn_gaps > 0", "kmsconn_gaps > 5"))
    scenes = (FOLDER / "kmsconn.rules.test.yml").read_text(encoding="utf-8")
    head, *several = scenes.split("  - name: ")
    [one] = [scene for scene in several if scene.startswith('"KmsconnCompletenessGap"')]
    (tmp_path / "one.test.yml").write_text(f"{head}  - name: {one}")
    status, said = run(promtool, "test", "rules", "one.test.yml", folder=tmp_path)
    assert (status, "KmsconnCompletenessGap" in said) == (1, True), said
