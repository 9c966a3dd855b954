"""``kmsconn journal copy FROM TO``: copies a whole journal, from a file into PostgreSQL or back. No connector may use either meanwhile."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from kmsconn.config import places
from kmsconn.config.findings import Findings
from kmsconn.config.storage import with_password
from kmsconn.config.values import PostgresAddress
from kmsconn.errors import ConfigError, Fault
from kmsconn.journal.copying import copy_journal
from kmsconn.journal.journal import driver_of
from kmsconn.operate.commands.command import CliCommand, ExitStatus

TELLING: Final = 2.0  # seconds between lines that tell of the progress, on a terminal

Address = Path | PostgresAddress


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    words = (
        "copy all rows of a journal into an empty one, and compare them; both must be used by no connector"
    )
    action = actions.add_parser("copy", help=words, description=words)
    action.add_argument(
        "source", metavar="FROM", help="sqlite:///PATH or postgresql://USER@HOST:PORT/DATABASE"
    )
    action.add_argument("target", metavar="TO", help="the same; nothing, or an empty journal, may be there")
    for side, name in (("source", "--from-password-file"), ("target", "--to-password-file")):
        action.add_argument(
            name,
            dest=f"{side}_password",
            type=Path,
            metavar="FILE",
            help="file with the password of that database",
        )


def execute(arguments: argparse.Namespace) -> int:
    """Copy, and print what was copied. Raises ConfigError; StartRefused where it cannot be done."""
    source, target = _addresses(arguments)
    started = time.monotonic()
    copied = copy_journal(driver_of(source, 1), driver_of(target, 1), _Progress().tell)
    for line in _result(copied):
        print(line)
    print(f"copied {source} to {target} in {time.monotonic() - started:.1f} s; both have the same rows")
    print(
        "name the new journal in the option journal, and start no connector on the old one any more: it goes its own way"
    )
    return ExitStatus.WELL


def _addresses(arguments: argparse.Namespace) -> tuple[Address, Address]:
    findings = Findings()
    source, target = (
        _address(findings, place, written, password)
        for place, written, password in (
            ("FROM", arguments.source, arguments.source_password),
            ("TO", arguments.target, arguments.target_password),
        )
    )
    if not findings.faults and str(source) == str(target):
        findings.fault("TO", "is the same journal as FROM", "name another one")
    if source is None or target is None or findings.faults:
        raise ConfigError(tuple(findings.faults))
    for warning in findings.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return source, target


def _address(findings: Findings, place: str, written: str, password: Path | None) -> Address | None:
    try:
        address = places.journal_address(written)
    except ValueError as error:
        findings.faults.append(Fault(place, str(error)))
        return None
    if password is None:
        return address
    option = f"--{place.lower()}-password-file"
    if isinstance(address, PostgresAddress):
        return with_password(address, option, password, findings)
    findings.fault(option, f"is of no use: {place} is a file")
    return None


class _Progress:
    """Tells a terminal how far it is."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def tell(self, table: str, rows: int) -> None:
        """Say how many rows of a table have been copied, every other second."""
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._told >= TELLING:
            self._told = now
            print(f"{table}: {rows} rows", file=sys.stderr)


def _result(copied: Mapping[str, int]) -> Iterator[str]:
    yield from (f"{name:<16} {rows:>10}" for name, rows in copied.items() if rows)


COMMANDS: Final = {"journal": CliCommand(configure, execute)}
