"""``make setup`` on a machine that has nothing yet, with a Python that installs nothing: each long step is announced before it begins."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = """#!/bin/sh
echo "BEGUN $*"
if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi
"""


def make(folder: Path, target: str) -> list[str]:
    """Make a target with a virtual environment in ``folder``; return the lines that were said."""
    python = folder / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    command = ["make", "--silent", target, f"VENV={folder / 'venv'}", f"PYTHON={python}"]
    run = subprocess.run(  # noqa: S603 - our own Makefile
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    return run.stdout.splitlines()


def test_setup_announces_each_long_step_before_it_begins(tmp_path: Path) -> None:
    """It was silent for minutes."""
    said = make(tmp_path, "setup")
    begun = [number for number, line in enumerate(said) if line.startswith("BEGUN ")]
    assert ["venv" in said[begun[0]], "dev.txt" in said[begun[1]], len(begun)] == [True, True, 3]
    assert [said[number - 1][:3] for number in begun] == ["1/3", "2/3", "3/3"]


def test_pip_names_the_packages_as_it_gets_them(tmp_path: Path) -> None:
    [locked] = [line for line in make(tmp_path, "setup") if "dev.txt" in line and line.startswith("BEGUN ")]
    assert "--quiet" not in locked


def test_a_second_setup_says_and_does_nothing(tmp_path: Path) -> None:
    make(tmp_path, "setup")
    assert [line for line in make(tmp_path, "setup") if "BEGUN" in line] == []
