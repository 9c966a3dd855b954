"""``kmsconn quarantine list|show|retry|drop``: logs that could not be decoded, and requests that met something unexpected."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from kmsconn.operate.commands.arguments import at_least
from kmsconn.operate.commands.asking import add_asking, ask_and_print, called, refusals, time_text
from kmsconn.operate.commands.requests import list_as_text, show_as_text
from kmsconn.operate.control.requests import MOST, USUAL

EXAMPLES: Final = (
    "kmsconn quarantine list -c kmsconn.toml",
    "kmsconn quarantine show -c kmsconn.toml NAME",
    "kmsconn quarantine retry -c kmsconn.toml NAME",
    'kmsconn quarantine drop -c kmsconn.toml NAME --reason "a test of the contract"',
)
_ACTIONS: Final = {
    "list": "list undecodable logs and quarantined requests, the newest first",
    "show": "show one with its bytes, and what this version reads in it",
    "retry": "decode a log again and record its request, or let a request begin again",
    "drop": "delete a log, or end a request for good",
}
_NAME_HELP: Final = (
    "a log as `list` names it, 0x…:INDEX; or the on-chain id with 0x, or row number, of a request"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, words in _ACTIONS.items():
        action = actions.add_parser(name, help=words, description=words)
        add_asking(action)
        if name == "list":
            most = f"maximum number of each, up to {MOST} ({USUAL})"
            action.add_argument("--limit", type=at_least(1), default=USUAL, metavar="N", help=most)
        else:
            action.add_argument("name", metavar="NAME", help=_NAME_HELP)
        if name == "drop":
            action.add_argument("--reason", default="", metavar="TEXT", help="why; needed for a request")
        action.set_defaults(action=name)


def execute(arguments: argparse.Namespace) -> int:
    """Ask, and print the answer. Raises ConfigError and StartRefused."""
    names = ("limit", "name", "reason")
    values = {name: value for name, value in vars(arguments).items() if name in names}
    command = f"quarantine.{arguments.action}"
    return ask_and_print(arguments, command, values, _AS_TEXT[arguments.action])


def _list_as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    for one in answer["logs"]:
        yield f"{one['log']:<16} log of block {one['block']}, {one['contract']}  {time_text(one['found_at'])}  {one['reason']}"
    if answer["requests"]:
        yield from list_as_text({**answer, "before": None})
    if not answer["logs"] and not answer["requests"]:
        yield "nothing is quarantined"


def _show_as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    for one in answer["logs"]:
        for name, value in one.items():
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            yield f"{name:<20} {time_text(value) if name == 'found_at' else text}"
        yield ""
    yield from show_as_text(answer)


def _retry_as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    for one in answer["retried"]:
        known = one.get("known", False)
        yield f"{called(one)}: {'its request was known already; the log is dropped' if known else 'is retried'}"
    yield from refusals(answer["refused"])


def _drop_as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{called(one)}: is dropped" for one in answer["dropped"])
    yield from refusals(answer["refused"])


_AS_TEXT: Final = {
    "list": _list_as_text,
    "show": _show_as_text,
    "retry": _retry_as_text,
    "drop": _drop_as_text,
}
