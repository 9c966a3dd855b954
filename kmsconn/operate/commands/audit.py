"""``kmsconn audit verify|export``: whether nothing in an audit log was changed, and its transitions for other programs. Changes nothing."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from kmsconn.journal.audit import TRANSITION, numbered_lines, read_line, verify
from kmsconn.operate.commands.command import CliCommand, ExitStatus

COLUMNS: Final = (
    "number", "at", "seq", "row", "kind", "id", "chain", "contract", "from", "to", "block", "transaction", "nonce", "reply",
    "included", "reason",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    checked = _action(actions, "verify", "check that no line was changed, removed, inserted or moved")
    checked.add_argument(
        "--head", default="", metavar="SHA256", help="a hash that a line of the log must have"
    )
    exported = _action(actions, "export", "print the transitions of requests")
    exported.add_argument(
        "--since", type=_time, metavar="TIME", help="from this time on, ISO 8601, UTC without an offset"
    )
    exported.add_argument("--until", type=_time, metavar="TIME", help="before this time")
    exported.add_argument(
        "--kind", action="append", metavar="KIND", help="of this kind, such as user_decryption; several times"
    )
    form = exported.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object a line (the default)")
    form.add_argument("--csv", action="store_true", help="print CSV with a line of headings")


def _action(actions: Any, name: str, words: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=words, description=words)
    action.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="the files of one audit log, the oldest first"
    )
    action.set_defaults(action=name)
    return action


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a time such as 2026-01-31T12:00, not {text!r}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def execute(arguments: argparse.Namespace) -> int:
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


COMMANDS: Final = {"audit": CliCommand(configure, execute)}
