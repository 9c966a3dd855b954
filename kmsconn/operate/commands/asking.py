"""Asks the running connector over its control socket, or the journal of one that is stopped: for all commands of operators."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from kmsconn.config.sources import load_config
from kmsconn.errors import StartRefused
from kmsconn.operate.commands.endings import ExitStatus
from kmsconn.operate.commands.validate import add_config_argument, config_file
from kmsconn.operate.control.address import control_path
from kmsconn.operate.control.client import NOBODY_THERE, ask_running, ask_stopped
from kmsconn.operate.control.commands import CommandError
from kmsconn.transport.dialling import real_ports

AsText = Callable[[Any], Iterable[str]]

REQUEST_HELP = "on-chain id with 0x, or row number of the journal"


def add_asking(parser: argparse.ArgumentParser) -> None:
    """Describe whom to ask, and in which form to print the answer."""
    add_config_argument(parser)
    parser.add_argument(
        "--socket",
        type=Path,
        metavar="PATH",
        help="the control socket of a running connector; no configuration is read",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def ask_and_print(
    arguments: argparse.Namespace, command: str, values: Mapping[str, Any], as_text: AsText
) -> int:
    """Have a command done and print its answer; something in it that was ``refused`` is an exit status.

    Raises ConfigError and StartRefused.
    """
    try:
        answer = trio.run(partial(_ask, arguments, command, values))
    except CommandError as error:
        print(f"kmsconn: {error}", file=sys.stderr)
        return ExitStatus.WRONG_USAGE
    if arguments.json:
        print(msgspec.json.encode(answer).decode())
    else:
        for line in as_text(answer):
            print(line)
    return ExitStatus.REFUSED if answer.get("refused") or answer.get("same") is False else ExitStatus.WELL


async def _ask(arguments: argparse.Namespace, command: str, values: Mapping[str, Any]) -> Any:
    if arguments.socket is not None:
        try:
            return await ask_running(arguments.socket, command, values)
        except NOBODY_THERE as error:
            raise StartRefused(f"no connector listens at {arguments.socket}: {error.strerror}") from error
    settings = load_config(config_file(arguments), environ=os.environ, network=arguments.network)
    try:
        return await ask_running(control_path(settings), command, values)
    except NOBODY_THERE:
        return await ask_stopped(settings, real_ports(), command, values)


def time_text(seconds: float) -> str:
    """Return a wall time as text."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def duration_text(seconds: float | None) -> str:
    """Return a duration as text, with as many digits as anybody reads."""
    if seconds is None:
        return "-"
    for limit, unit, name in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172_800.0, 3600.0, "h")):
        if seconds < limit:
            digits = 3 if seconds < 1 else 1
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{seconds / 86_400:.1f} days"


def refusals(refused: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Yield why requests, or logs, are unchanged."""
    yield from (f"{called(one)}: is unchanged: {one['why']}" for one in refused)


def called(one: Mapping[str, Any]) -> str:
    """Return what a request, or a log, is called."""
    return f"row {one['row']}, {one['kind']} {one['id']}" if "row" in one else f"log {one['log']}"
