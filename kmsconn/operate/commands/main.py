"""The command line: finds the command, runs it, turns what ends it into words and an exit status. Knows nothing else.

A command is a module of this package, or of the emulator's commands, with ``configure(parser)``, ``execute(arguments) -> int`` and
``EXAMPLES``, the lines that its ``--help`` ends with. Only the module of the command that is run is imported.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from kmsconn import __version__
from kmsconn.errors import ConfigError, Fault, StartRefused
from kmsconn.extras import is_installed, require_extra
from kmsconn.operate.commands.endings import ExitStatus, crash_report, only

COMMANDS: Final = {
    "run": "run the connector until SIGTERM or SIGINT",
    "validate": "check the configuration without starting anything",
    "doctor": "examine everything that the configuration names, and say what is wrong and what to do",
    "config": "explain the configuration, or make one file of those of the three services of 0.14",
    "health": "ask a running connector whether it is healthy",
    "status": "show how the connector is, on one screen",
    "explain": "tell what became of a request, what it waits for and what comes next",
    "audit": "verify or export an audit log",
    "journal": "copy a journal from one database into another",
    "requests": "list, show or retry requests",
    "top": "show a running connector in the terminal, live",
    "quarantine": "list, show, retry or drop undecodable logs and quarantined requests",
    "pause": "stop working on a kind of requests, also after a restart",
    "resume": "work on a paused kind of requests again",
    "skip": "end a request for good",
    "replay": "compare the reply to a request with what its recorded inputs give now",
    "list": "list the configuration files of KMS_CONNECTOR_CONFIG_DIR, or of config/environments",
    "emulate": "serve emulated chains, Core and buckets under a load, and write the configuration of their connector",
    "demo": "run a connector with emulated dependencies in one process",
    "completion": "print what makes a shell complete the commands",
}

EMULATED: Final = frozenset({"emulate", "demo"})
"""Commands of ``kmsconn.emulator.commands``: nothing of the product imports them."""

ALIASES: Final = {"start": "run"}
"""Names of the services of 0.14 for our commands."""


def make_parser(only_command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands; with ``only_command`` the others are named, and take no arguments."""
    parser = argparse.ArgumentParser(prog="kmsconn", description="Connects a KMS Core to the fhEVM gateway.")
    parser.add_argument("--version", action="version", version=f"kmsconn {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, words in COMMANDS.items():
        aliases = [alias for alias, meant in ALIASES.items() if meant == name]
        command = commands.add_parser(
            name,
            aliases=aliases,
            help=words,
            description=words,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        there = name not in EMULATED or is_installed("emulator")
        if only_command in (name, *aliases) or (only_command is None and there):
            _configure(name, command)
    return parser


def module_of(name: str) -> ModuleType:
    """Import the module of a command. Raises ExtraMissing where it needs what is not installed."""
    if name not in EMULATED:
        return importlib.import_module(f"kmsconn.operate.commands.{name}")
    require_extra("emulator", f"kmsconn {name}")
    return importlib.import_module(f"kmsconn.emulator.commands.{name}")


def _configure(name: str, command: argparse.ArgumentParser) -> None:
    module = module_of(name)
    module.configure(command)
    command.epilog = "\n".join(("examples:", *(f"  {line}" for line in module.EXAMPLES)))
    command.set_defaults(execute=module.execute)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status (docs/options.md names them). Wrong usage exits with 2 at once.

    SIGINT before a command heeds it, and a reader that closes standard output early, end the command without a word, with the
    statuses that a shell gives to the signals.
    """
    words = sys.argv[1:] if argv is None else argv
    try:
        status = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # what Python flushes as it ends goes nowhere
        return ExitStatus.BROKEN_PIPE
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    return status


def _run(words: Sequence[str]) -> int:
    try:
        arguments = make_parser(words[0] if words else None).parse_args(words)
        status: int = arguments.execute(arguments)
    except ConfigError as error:
        return _say_faults(error.faults)
    except StartRefused as error:
        return _say_refused(error)
    except BaseExceptionGroup as group:
        return _say_group(group)
    return status


def _say_faults(faults: Sequence[Fault]) -> int:
    number = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    _say(f"{number} in the configuration:")
    for fault in faults:
        print(f"  {fault}", file=sys.stderr)
    return ExitStatus.WRONG_USAGE


def _say_refused(*errors: StartRefused) -> int:
    for error in errors:
        _say(f"refused to start: {error}")
    return ExitStatus.REFUSED


def _say_group(group: BaseExceptionGroup[BaseException]) -> int:
    """Trio gathers errors in groups: one that holds nothing but faults, or refusals, ends as these do; everything else is a crash."""
    if errors := only(ConfigError, group):
        return _say_faults([fault for error in errors for fault in error.faults])
    if refusals := only(StartRefused, group):
        return _say_refused(*refusals)
    if only(KeyboardInterrupt, group):
        return ExitStatus.INTERRUPTED
    _say(crash_report(group))
    return ExitStatus.CRASHED


def _say(text: str) -> None:
    print(f"kmsconn: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
