"""Commands with the base installation's packages alone, and ``make setup`` where nothing is installed: each step is announced."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import trio

from tests.e2e.test_process import PATIENCE, command, installed
from tests.unit.config.sample_values import write_toml


async def ended(arguments: list[str]) -> tuple[int, str]:
    """Run a command to its end; return its exit status and what it said."""
    with trio.fail_after(PATIENCE):
        run = await trio.run_process(arguments, capture_stdout=True, capture_stderr=True, check=False)
    return run.returncode, (run.stdout + run.stderr).decode()


@pytest.mark.parametrize("asked", ["--help", "--version"])
async def test_the_command_starts(asked: str) -> None:
    assert await ended(installed("run.txt", asked)) == await ended(command(asked))


async def test_a_configuration_with_a_mnemonic_is_checked(tmp_path: Path) -> None:
    phrase = "test test test test test test test test test test test junk"
    path = write_toml(tmp_path, {"private_key": None, "mnemonic": phrase})
    status, said = await ended(installed("run.txt", "validate", "-c", str(path)))
    assert (status, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266" in said) == (0, True)


async def test_the_demonstration_names_what_it_needs() -> None:
    status, said = await ended(installed("run.txt", "demo"))
    assert status == 3
    assert said.startswith("kmsconn: refused to start: kmsconn demo needs cryptography, kyber_py, ")
    assert said.endswith("pip install 'kmsconn[emulator]'\n")


async def test_a_wallet_in_aws_kms_names_what_it_needs(tmp_path: Path) -> None:
    wallet = {"private_key": None, "aws_kms_config": {"key_id": "alias/sender", "region": "eu-west-1"}}
    own = {"journal": f"sqlite:///{tmp_path}/journal.db", "monitoring_endpoint": "127.0.0.1:0"}
    status, said = await ended(installed("run.txt", "run", "-c", str(write_toml(tmp_path, wallet | own))))
    assert status == 3
    assert "aws_kms_config needs aiobotocore, cryptography, not installed here" in said


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
