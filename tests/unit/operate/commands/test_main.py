"""The command line: exit statuses and the words that go with them."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kmsconn import __version__
from kmsconn.errors import ConfigError, Fault, StartRefused
from kmsconn.operate.commands import main as command_line
from kmsconn.operate.commands.command import CliCommand
from kmsconn.operate.commands.configuration import COMMANDS, add_config_argument
from tests.unit.config.sample_values import ADDRESS, KEY, write_toml

Execute = Callable[[argparse.Namespace], int]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {})


def ending_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """Run a command that raises."""

    def execute(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setitem(COMMANDS, "validate", CliCommand(add_config_argument, execute))
    return command_line.main(["validate"])


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"kmsconn {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["validate", "--nonsense"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(arguments)
    assert caught.value.code == 2


def test_a_valid_file_exits_with_0_and_shows_sender_and_warnings_and_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"gateway_url": "https://user:hunter2@node/hunter2?key=hunter2", "tx_retries": 4}
    assert command_line.main(["validate", "-c", str(write_toml(tmp_path, changes))]) == 0
    printed = capsys.readouterr()
    for said in (ADDRESS, "valid", "https://node", "warning: tx_retries: has no effect"):
        assert said in printed.out
    assert "hunter2" not in printed.out + printed.err
    assert KEY not in printed.out + printed.err


@pytest.mark.parametrize("command", ["run", "validate"])
def test_a_faulty_file_exits_with_2_and_names_every_fault(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_toml(tmp_path, {"gateway_url": None, "gatway_url": "http://x"})
    assert command_line.main([command, "-c", str(path)]) == 2
    printed = capsys.readouterr().err
    assert "2 faults in the configuration" in printed
    assert "gatway_url: is unknown; did you mean gateway_url?" in printed


def within(error: BaseException) -> BaseException:
    """Return an error as a tree of tasks raises it."""
    return BaseExceptionGroup("", [BaseExceptionGroup("", [error])])


FAULTY = ConfigError((Fault("k.toml", "is foreign", "name another"),))
REFUSED = StartRefused("journal in use")
FAULT = "kmsconn: 1 fault in the configuration:\n  k.toml: is foreign; name another\n"
REFUSAL = "kmsconn: refused to start: journal in use\n"


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (FAULTY, 2, FAULT),
        (within(FAULTY), 2, FAULT),
        (REFUSED, 3, REFUSAL),
        (within(REFUSED), 3, REFUSAL),
        (within(ValueError("unexpected")), 1, "(?s).*ValueError: unexpected.*"),
        (KeyboardInterrupt(), 130, ""),
        (within(KeyboardInterrupt()), 130, ""),
    ],
    ids=["faults", "faults in groups", "refusal", "refusal in groups", "crash", "ctrl-c", "ctrl-c in groups"],
)
def test_each_end_has_its_status_and_its_words(
    error: BaseException,
    status: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ending_with(monkeypatch, error) == status
    assert re.fullmatch(told, capsys.readouterr().err)


def test_start_is_another_name_of_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The services of 0.14 are started with it."""
    assert command_line.main(["start", "-c", "/nowhere/kmsconn.toml"]) == 2
    assert "/nowhere/kmsconn.toml: cannot be read" in capsys.readouterr().err


def test_only_the_module_of_the_command_is_imported() -> None:
    """The emulator's libraries must not be loaded to validate a file."""
    code = "import sys; from kmsconn.operate.commands.main import main; main(['list']); print('kmsconn.emulator' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    assert result.stdout.endswith("False\n")


@pytest.mark.parametrize("name", command_line.COMMANDS)
def test_every_help_ends_with_examples_that_are_understood(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An example's words are parsed as they stand; nothing is run."""
    examples = command_line.EXAMPLES[name]
    for line in examples:
        words = shlex.split(re.split(r"\s[>#|]", line)[0])
        assert words[0] == "kmsconn"
        command_line.make_parser().parse_args(words[1:])
    with pytest.raises(SystemExit) as caught:
        command_line.main([name, "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert "usage: kmsconn" in said
    assert said.rstrip().endswith(examples[-1])
