"""``kmsconn doctor``: examines everything that the configuration names, and says what is wrong and what to do. Changes nothing."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from functools import partial
from typing import Final

import trio

from kmsconn.config.sources import load_config
from kmsconn.errors import Fault
from kmsconn.operate.commands.endings import ExitStatus
from kmsconn.operate.commands.validate import add_config_argument, config_file
from kmsconn.operate.doctor.diagnosis import Diagnosis, as_json, as_text, has_fault, warning
from kmsconn.operate.doctor.examination import examine
from kmsconn.operate.doctor.machine import real_machine
from kmsconn.transport.dialling import real_ports

EXAMPLES: Final = (
    "kmsconn doctor -c kmsconn.toml",
    "kmsconn doctor --network testnet --json",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add_config_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--ask-core",
        action="store_true",
        help="hand one recent public request over to a Core that has no result to read, to learn its signer",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print a line for each check. Raises ConfigError with all faults of the configuration."""
    settings = load_config(config_file(arguments), environ=os.environ, network=arguments.network)
    run = partial(examine, settings, real_ports(), real_machine(), ask_core=arguments.ask_core)
    lines = [*map(of_configuration, settings.warnings), *trio.run(run)]
    print_lines(lines, machine_readable=arguments.json)
    return ExitStatus.FAULTS_FOUND if has_fault(lines) else ExitStatus.WELL


def of_configuration(found: Fault) -> Diagnosis:
    """Return a warning of the configuration as a line."""
    return warning(f"configuration: {found.place}", found.message, found.remedy)


def print_lines(lines: Sequence[Diagnosis], *, machine_readable: bool) -> None:
    """Print the lines for people or for machines."""
    if machine_readable:
        print(json.dumps(as_json(lines), indent=2, ensure_ascii=False))
        return
    for text in as_text(lines):
        print(text)
