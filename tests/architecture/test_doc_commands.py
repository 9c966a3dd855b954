"""Every command line of the documentation is run (tests/e2e/test_doc_commands.py), or parsed with a reason; none is left out."""

from __future__ import annotations

import shlex
import subprocess

import pytest

import bench.__main__
import bench.soak
from kmsconn.operate.commands.main import make_parser
from tests.doc_commands import BESIDE, ENDS, OTHERS, OURS, PARSED, ROOT, STAYS, Command, commands, ours

RUN = {*ENDS, *BESIDE, *STAYS}
EVERY = sorted({command.text: command for command in ours()}.values(), key=lambda one: one.text)


def test_every_command_line_is_run_or_has_a_reason() -> None:
    assert [one for one in ours() if (one.text in RUN) == (one.reason is not None)] == []


def test_every_program_is_known() -> None:
    assert [one for one in commands() if one.program not in OURS and one.program not in OTHERS] == []


def test_what_is_run_or_excused_stands_on_a_page() -> None:
    told = {one.text for one in commands()}
    assert set(RUN) - told == set()
    excused = {" ".join(text.split()[:2]) if text.startswith("make ") else text for text in told}
    assert set(PARSED) - excused == set()


def of_kmsconn() -> list[Command]:
    return [one for one in EVERY if OURS[one.program] == "kmsconn"]


@pytest.mark.parametrize("command", of_kmsconn(), ids=lambda one: one.text)
def test_kmsconn_takes_the_words_of_a_page(command: Command) -> None:
    words = command.words
    if set(words) & {"--help", "--version"}:
        with pytest.raises(SystemExit, match="0"):
            make_parser().parse_args(words)
    else:
        make_parser(words[0]).parse_args(words)


@pytest.mark.parametrize("command", [one for one in EVERY if one.program == "make"], ids=lambda one: one.text)
def test_make_has_what_a_page_makes(command: Command) -> None:
    make = ["make", "--dry-run", "--assume-old=.venv/.done", *command.words]
    run = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own Makefile
    assert run.returncode == 0, run.stderr
    assert run.stdout


PARSERS = {"BENCH": bench.__main__.parser, "SOAK": bench.soak.parser}


@pytest.mark.parametrize("command", [one for one in EVERY if "='" in one.text], ids=lambda one: one.text)
def test_a_benchmark_takes_the_words_of_a_page(command: Command) -> None:
    values = dict(word.split("=", 1) for word in command.words if "=" in word)
    for name, parser in PARSERS.items():
        parser().parse_args(shlex.split(values.get(name, "").replace("../an-older-worktree", str(ROOT))))
