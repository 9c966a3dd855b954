"""What a shell reads to complete the commands: there for each shell, and as the parser is."""

from __future__ import annotations

import argparse
import shutil
import subprocess

import pytest

from kmsconn.cli.completion import SHELLS, completions, execute
from tools import gen_completions


def test_the_completions_are_those_of_the_parser() -> None:
    """``make gen`` writes them again."""
    assert gen_completions.main(["--check"]) == 0


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shells_completions_are_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(argparse.Namespace(shell=shell)) == 0
    assert capsys.readouterr().out == completions(shell)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_and_options() -> None:
    script = (
        completions("bash")
        + """
        complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_kmsconn; echo "${COMPREPLY[@]}"; }
        complete_words kmsconn req
        complete_words kmsconn requests list --st
    """
    )
    command = [shutil.which("bash") or "", "-c", script]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own script
    assert printed.split() == ["requests", "--state"]
