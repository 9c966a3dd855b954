"""``kmsconn config``: explains where each value comes from, and merges the files of the three services of 0.14 into one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kmsconn.config.findings import Findings, Given
from kmsconn.config.merging import merge, toml_text
from kmsconn.config.reference import ExplainedOption, explain
from kmsconn.config.sources import load_config, read_sources, read_toml
from kmsconn.errors import ConfigError, Fault
from kmsconn.operate.commands.endings import ExitStatus
from kmsconn.operate.commands.validate import add_config_argument, config_file

EXAMPLES: Final = (
    "kmsconn config explain -c kmsconn.toml",
    "kmsconn config import gw-listener.toml kms-worker.toml tx-sender.toml -o kmsconn.toml",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the two commands."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    explained = commands.add_parser(
        "explain", help="print each option with its value, its source and its variable"
    )
    add_config_argument(explained)
    explained.add_argument("--all", action="store_true", help="also print options that have their default")
    explained.set_defaults(config_command=execute_explain)
    imported = commands.add_parser(
        "import", help="merge gw-listener.toml, kms-worker.toml and tx-sender.toml"
    )
    imported.add_argument(
        "files", metavar="FILE", nargs="+", type=Path, help="a file of the three services of 0.14"
    )
    imported.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        required=True,
        help="where to write; has mode 0600, since it may hold the key",
    )
    imported.add_argument("--force", action="store_true", help="overwrite that file")
    imported.set_defaults(config_command=execute_import)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command that was named."""
    status: int = arguments.config_command(arguments)
    return status


def execute_explain(arguments: argparse.Namespace) -> int:
    """Print the options, then warnings and faults. A faulty configuration is explained too, and ends with status 2."""
    path = config_file(arguments)
    reading = read_sources(path, environ=os.environ, network=arguments.network)
    reading.assemble(os.environ)
    findings = reading.findings
    rows = explain(
        reading.generation.table, findings.given, reading.values, "default" if path is None else str(path)
    )
    for line in table([row for row in rows if arguments.all or row.source != "default"]):
        print(line)
    for warning in findings.warnings:
        print(f"warning: {warning}")
    if findings.faults:
        raise ConfigError(tuple(findings.faults))
    return ExitStatus.WELL


def table(rows: Sequence[ExplainedOption]) -> list[str]:
    """Return rows as aligned columns: option, value, source, variable."""
    cells = [
        ("option", "value", "source", "variable"),
        *((row.name, row.value, row.source, row.variable) for row in rows),
    ]
    widths = [max(len(cell[column]) for cell in cells) for column in range(3)]
    return [
        "  ".join([*(text.ljust(width) for text, width in zip(cell, widths, strict=False)), cell[3]])
        for cell in cells
    ]


def execute_import(arguments: argparse.Namespace) -> int:
    """Write the merged file and say what was renamed or dropped. Raises ConfigError with what is still missing in it."""
    merged = merge(_read(arguments.files))
    _write(arguments.output, toml_text(merged.options), overwrite=arguments.force)
    for note in merged.notes:
        print(note)
    print(f"{arguments.output}: {len(merged.options)} options of {len(arguments.files)} files")
    for warning in load_config(arguments.output, environ={}).warnings:
        print(f"warning: {warning}")
    return ExitStatus.WELL


def _read(paths: Sequence[Path]) -> dict[str, dict[str, Given]]:
    """Return what each file gives. Raises ConfigError with every file that cannot be read."""
    findings = Findings()
    files = {str(path): read_toml(path, findings) for path in paths}
    if findings.faults:
        raise ConfigError(tuple(findings.faults))
    for warning in findings.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return files


def _write(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a new file that its owner alone may read. Raises ConfigError where it is there already, or cannot be written."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_EXCL)
    try:
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
    except FileExistsError:
        raise ConfigError(
            (Fault(str(path), "is there already", "name another file, or add --force"),)
        ) from None
    except OSError as error:
        raise ConfigError((Fault(str(path), f"cannot be written: {error.strerror}"),)) from error
