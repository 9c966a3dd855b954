"""The commands with the packages of the base installation and no others; ``test_process.py`` runs a connector with them."""

from __future__ import annotations

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
