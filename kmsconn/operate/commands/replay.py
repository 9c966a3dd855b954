"""``kmsconn replay ID``: compares the reply to a request with what its recorded inputs give now. Sends nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kmsconn.operate.commands.asking import REQUEST_HELP, add_asking, ask_and_print, called

EXAMPLES: Final = (
    "kmsconn replay -c kmsconn.toml ID --dry-run",
    "kmsconn replay -c kmsconn.toml ID    # asks the Core too, through the running connector",
)
_SAME: Final = {True: "same", False: "DIFFERENT", None: "unknown"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add_asking(parser)
    parser.add_argument("request", metavar="ID", help=REQUEST_HELP)
    parser.add_argument(
        "--dry-run", action="store_true", help="compare what the journal keeps, and do not ask the Core"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Ask, and print the answer. Raises ConfigError and StartRefused."""
    values = {"request": arguments.request, "dry": arguments.dry_run}
    return ask_and_print(arguments, "replay", values, as_text)


def as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield each comparison, and what they amount to."""
    for one in answer["checks"]:
        yield f"{one['check']:<12} {_SAME[one['same']]:<10} {one['found']}"
    yield f"{called(answer)}: {'nothing differs' if answer['same'] else 'the reply differs from what its inputs give'}"
