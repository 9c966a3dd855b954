"""The command line: finds the command, runs it, turns what ends it into words and an exit status. Knows nothing else.

A command is a module of this room with ``HELP``, ``configure(parser)`` and ``execute(arguments) -> int``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Final

from kmsconn import __version__
from kmsconn.cli.crashes import crash_report
from kmsconn.cli.endings import ExitStatus, only
from kmsconn.errors import ConfigError, Fault, StartRefused

COMMANDS: Final = ("run", "validate", "requests", "list", "emulate", "demo")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="kmsconn", description="Connects a KMS Core to the fhEVM gateway.")
    parser.add_argument("--version", action="version", version=f"kmsconn {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"kmsconn.cli.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.configure(command)
        command.set_defaults(execute=module.execute)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status (docs/options.md names them). Wrong usage exits with 2 at once."""
    arguments = make_parser().parse_args(argv)
    try:
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
    _say(crash_report(group))
    return ExitStatus.CRASHED


def _say(text: str) -> None:
    print(f"kmsconn: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
