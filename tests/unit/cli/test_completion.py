"""What a shell reads to complete the commands: the commands, options and choices of the parser, in a form that the shell takes."""

from __future__ import annotations

import argparse
import shutil
import subprocess

import pytest

from kmsconn.cli.completion import SHELLS, completions, execute, words_of
from kmsconn.cli.main import COMMANDS, make_parser


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shells_completions_are_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(argparse.Namespace(shell=shell)) == 0
    printed = capsys.readouterr().out
    assert printed == completions(make_parser(), shell) + "\n"
    assert all(name in printed for name in COMMANDS)


def test_the_words_are_those_of_the_parser() -> None:
    words = {one.path: one for one in words_of(make_parser())}
    assert words[()].commands.keys() >= COMMANDS.keys()
    assert words["requests",].commands.keys() == {"list", "show", "retry"}
    assert "--network" in words["run",].options
    assert words["run",].choices["--network"] == ("testnet", "mainnet", "devnet")
    assert words["completion",].commands.keys() == set(SHELLS)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kmsconn req", ["requests"]),
        ("kmsconn requests re", ["retry"]),
        ("kmsconn requests list --st", ["--state"]),
        ("kmsconn run --network ma", ["mainnet"]),
        ("kmsconn run -c kmsconn.toml --net", ["--network"]),
        ("kmsconn completion f", ["fish"]),
    ],
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_a_line(line: str, expected: list[str]) -> None:
    words = line.split()
    script = f"""{completions(make_parser(), "bash")}
        COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _kmsconn; echo "${{COMPREPLY[@]}}"
    """
    command = [shutil.which("bash") or "", "-c", script]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own script
    assert printed.split() == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_another_shell_reads_its_completions_without_a_word(shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    script = completions(make_parser(), shell)
    run = subprocess.run([program, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603 - our own script
    assert (run.returncode, run.stderr) == (0, "")
