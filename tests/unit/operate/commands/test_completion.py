"""What a shell asks to complete the commands: the commands, options and choices of the parser, in a form that the shell takes."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kmsconn.operate.commands.main import COMMANDS, SCRIPTS, completion, following, make_parser


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_shells_script_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert completion(argparse.Namespace(shell=shell, line=[])) == 0
    assert capsys.readouterr().out == f"{SCRIPTS[shell]}\n"


def test_the_words_are_those_of_the_parser() -> None:
    def words(line: str) -> dict[str, str]:
        return dict(following(make_parser(), line.split()))

    assert words("").items() >= COMMANDS.items()
    assert [one for one in words("requests") if one[0] != "-"] == ["list", "show", "retry"]
    assert "--state" in words("requests list")
    assert "--network" in words("run -c kmsconn.toml")
    assert [*words("run --network")] == ["testnet", "mainnet", "devnet"]
    assert words("completion").keys() >= SCRIPTS.keys()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kmsconn req", ["requests"]),
        ("kmsconn requests list --st", ["--state"]),
        ("kmsconn run --network ma", ["mainnet"]),
    ],
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_a_line(line: str, expected: list[str]) -> None:
    words = line.split()
    script = f"""{SCRIPTS["bash"]}
        COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _kmsconn; echo "${{COMPREPLY[@]}}"
    """
    command = [shutil.which("bash") or "", "-c", script]
    ours = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=ours).stdout  # noqa: S603 - our own script
    assert printed.split() == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_another_shell_reads_its_script_without_a_word(shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    run = subprocess.run([program, "-c", SCRIPTS[shell]], capture_output=True, text=True, check=False)  # noqa: S603 - our own script
    assert (run.returncode, run.stderr) == (0, "")
