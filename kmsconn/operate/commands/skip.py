"""``kmsconn skip ID --reason TEXT``: ends a request for good; what is signed or included cannot be taken back."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kmsconn.operate.commands.asking import REQUEST_HELP, add_asking, ask_and_print, called, refusals

EXAMPLES: Final = ('kmsconn skip -c kmsconn.toml ID --reason "its ciphertext is lost"',)


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add_asking(parser)
    parser.add_argument("request", metavar="ID", help=REQUEST_HELP)
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; kept with the request")


def execute(arguments: argparse.Namespace) -> int:
    """Ask, and print the answer. Raises ConfigError and StartRefused."""
    values = {"request": arguments.request, "reason": arguments.reason}
    return ask_and_print(arguments, "skip", values, as_text)


def as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield whether the request has ended."""
    yield from (f"{called(one)}: is skipped" for one in answer["skipped"])
    yield from refusals(answer["refused"])
