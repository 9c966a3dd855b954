"""``kmsconn explain ID``: what became of one request: each step with its time, what it waited for, and what comes next."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kmsconn.operate.commands.asking import (
    REQUEST_HELP,
    add_asking,
    ask_and_print,
    called,
    duration_text,
    time_text,
)

EXAMPLES: Final = (
    "kmsconn explain -c kmsconn.toml ID",
    "kmsconn explain -c kmsconn.toml ID --json",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add_asking(parser)
    parser.add_argument("request", metavar="ID", help=REQUEST_HELP)


def execute(arguments: argparse.Namespace) -> int:
    """Ask, and print the answer. Raises ConfigError and StartRefused."""
    return ask_and_print(arguments, "explain", {"request": arguments.request}, as_text)


def as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield the timeline of each request."""
    for one in answer["requests"]:
        where = "" if one["on_chain"] else ", off chain"
        yield f"{called(one)}: {one['state']}{where}"
        for step in one["timeline"]:
            yield from _step(step)
        yield f"  {'now':<25}  {' '.join(one['now'].split())}"
        yield f"  {'next':<25}  {one['next']}"
        if one["transaction"] is not None:
            yield f"  {'transaction':<25}  {one['transaction']}, nonce {one['nonce']}"


def _step(step: Mapping[str, Any]) -> Iterator[str]:
    detail = f": {' '.join(step['detail'].split())}" if step["detail"] else ""
    length = f"  (for {duration_text(step['seconds'])})" if step["seconds"] is not None else ""
    if step["stages"]:
        stages = ", ".join(f"{name} {duration_text(seconds)}" for name, seconds in step["stages"].items())
        yield f"  {'':<25}  stages: {stages}"
    yield f"  {time_text(step['at']):<25}  {step['what']}{detail}{length}"
