"""``kmsconn pause KIND``: requests of a kind are recorded and not worked on, also after a restart, until ``kmsconn resume``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kmsconn.operate.commands.asking import add_asking, ask_and_print, time_text

EXAMPLES: Final = (
    "kmsconn pause -c kmsconn.toml user_decryption",
    'kmsconn pause -c kmsconn.toml user_decryption --reason "the Core is upgraded"',
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add_asking(parser)
    parser.add_argument("kind", metavar="KIND", help="kind of requests, such as user_decryption")
    parser.add_argument(
        "--reason", default="", metavar="TEXT", help="why; shown by status, health and the alert"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Ask, and print the answer. Raises ConfigError and StartRefused."""
    values = {"kind": arguments.kind, "reason": arguments.reason}
    return ask_and_print(arguments, "pause", values, as_text)


def as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield whether it was paused, and all that is paused now."""
    yield f"{answer['kind']}: {'is paused' if answer['changed'] else 'was paused already'}; requests are recorded and wait"
    yield from paused_as_text(answer)


def paused_as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield the kinds that are paused now."""
    for one in answer["paused"]:
        said = f": {one['reason']}" if one["reason"] else ""
        yield f"  paused: {one['kind']} since {time_text(one['since'])}{said}"
