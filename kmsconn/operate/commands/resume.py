"""``kmsconn resume KIND``: ends a pause; requests that are due are worked on at once."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kmsconn.operate.commands.asking import add_asking, ask_and_print
from kmsconn.operate.commands.pause import paused_as_text

EXAMPLES: Final = ("kmsconn resume -c kmsconn.toml user_decryption",)


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add_asking(parser)
    parser.add_argument("kind", metavar="KIND", help="kind of requests, such as user_decryption")


def execute(arguments: argparse.Namespace) -> int:
    """Ask, and print the answer. Raises ConfigError and StartRefused."""
    return ask_and_print(arguments, "resume", {"kind": arguments.kind}, as_text)


def as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield whether it was resumed, and what is still paused."""
    yield f"{answer['kind']}: {'is resumed' if answer['changed'] else 'was not paused'}"
    yield from paused_as_text(answer)
