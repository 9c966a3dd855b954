"""What a connector has kept, without a connector: ``kmsconn journal copy FROM TO`` copies a whole journal, into PostgreSQL or back.

``kmsconn audit verify|export`` say whether nothing in an audit log was changed, and print its transitions for other programs. No connector
may use a journal that is copied; an audit log is read only.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from kmsconn.config import places
from kmsconn.config.assembly import with_password
from kmsconn.config.description import PostgresAddress
from kmsconn.config.options import Findings
from kmsconn.errors import ConfigError, Fault
from kmsconn.journal.audit import TRANSITION, numbered_lines, read_line, verify
from kmsconn.journal.copying import copy_journal
from kmsconn.journal.journal import driver_of
from kmsconn.operate.commands.command import CliCommand, ExitStatus

COLUMNS: Final = (
    "number", "at", "seq", "row", "kind", "id", "chain", "contract", "from", "to", "block", "transaction", "nonce", "reply",
    "included", "reason",
)  # fmt: skip


def configure_audit(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    checked = _action(actions, "verify", "check that no line was changed, removed, inserted or moved")
    checked.add_argument(
        "--head", default="", metavar="SHA256", help="a hash that a line of the log must have"
    )
    exported = _action(actions, "export", "print the transitions of requests")
    add, since = exported.add_argument, "from this time on, ISO 8601, UTC without an offset"
    add("--since", type=_time, metavar="TIME", help=since)
    add("--until", type=_time, metavar="TIME", help="before this time")
    add(
        "--kind", action="append", metavar="KIND", help="of this kind, such as user_decryption; several times"
    )
    form = exported.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object a line (the default)")
    form.add_argument("--csv", action="store_true", help="print CSV with a line of headings")


def _action(actions: Any, name: str, words: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=words, description=words)
    files = "the files of one audit log, the oldest first"
    action.add_argument("files", type=Path, nargs="+", metavar="FILE", help=files)
    action.set_defaults(action=name)
    return action


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a time such as 2026-01-31T12:00, not {text!r}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def audit(arguments: argparse.Namespace) -> int:
    """Verify or export. Status 1 where a chain is broken, 2 for a file that cannot be read."""
    try:
        return _verify(arguments) if arguments.action == "verify" else _export(arguments)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"kmsconn: {error.filename} cannot be read: {error.strerror}", file=sys.stderr)
        return ExitStatus.WRONG_USAGE


def _verify(arguments: argparse.Namespace) -> int:
    verdict = verify(arguments.files, arguments.head)
    for gap in verdict.gaps:
        print(f"gap: {gap}")
    if verdict.broken:
        print(f"broken: {verdict.broken}")
        return ExitStatus.CRASHED
    print(f"the chain holds: {verdict.lines} lines, head {verdict.head}")
    return ExitStatus.WELL


def _export(arguments: argparse.Namespace) -> int:
    rows = _chosen(arguments)
    if arguments.csv:
        writer = csv.DictWriter(sys.stdout, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        for row in rows:
            print(msgspec.json.encode(row).decode())
    return ExitStatus.WELL


def _chosen(arguments: argparse.Namespace) -> Iterator[Mapping[str, Any]]:
    for _, line in numbered_lines(arguments.files):
        row = read_line(line.removesuffix(b"\n"))
        if row is not None and row.get("type") == TRANSITION and _is_wanted(arguments, row):
            yield row


def _is_wanted(arguments: argparse.Namespace, row: Mapping[str, Any]) -> bool:
    at = datetime.fromisoformat(row["at"])
    return (
        (arguments.since is None or at >= arguments.since)
        and (arguments.until is None or at < arguments.until)
        and (not arguments.kind or row["kind"] in arguments.kind)
    )


TELLING: Final = 2.0  # seconds between lines that tell of the progress, on a terminal

Address = Path | PostgresAddress


def configure_copy(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    words = (
        "copy all rows of a journal into an empty one, and compare them; both must be used by no connector"
    )
    add = actions.add_parser("copy", help=words, description=words).add_argument
    add("source", metavar="FROM", help="sqlite:///PATH or postgresql://USER@HOST:PORT/DATABASE")
    add("target", metavar="TO", help="the same; nothing, or an empty journal, may be there")
    password: dict[str, Any] = {
        "type": Path,
        "metavar": "FILE",
        "help": "file with the password of that database",
    }
    add("--from-password-file", dest="source_password", **password)
    add("--to-password-file", dest="target_password", **password)


def copy(arguments: argparse.Namespace) -> int:
    """Copy, and print what was copied. Raises ConfigError; StartRefused where it cannot be done."""
    source, target = _addresses(arguments)
    started = time.monotonic()
    copied = copy_journal(driver_of(source, 1), driver_of(target, 1), _Progress().tell)
    for line in _result(copied):
        print(line)
    print(f"copied {source} to {target} in {time.monotonic() - started:.1f} s; both have the same rows")
    print("name the new journal in the option journal, and start no connector on the old one any more: it goes its own way")  # fmt: skip
    return ExitStatus.WELL


def _addresses(arguments: argparse.Namespace) -> tuple[Address, Address]:
    findings = Findings()
    source = _address(findings, "FROM", arguments.source, arguments.source_password)
    target = _address(findings, "TO", arguments.target, arguments.target_password)
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


COMMANDS: Final = {
    "journal": CliCommand(configure_copy, copy),
    "audit": CliCommand(configure_audit, audit),
}
