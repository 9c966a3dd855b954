"""``kmsconn requests list|show|retry``: what became of requests, and letting failed ones begin again. Decides nothing about them.

It asks the running connector over its control socket; where none runs, it opens the journal itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from kmsconn.operate.commands.arguments import at_least
from kmsconn.operate.commands.asking import (
    REQUEST_HELP,
    add_asking,
    ask_and_print,
    called,
    refusals,
    time_text,
)
from kmsconn.operate.control.requests import MOST, USUAL

EXAMPLES: Final = (
    "kmsconn requests list -c kmsconn.toml --state failed",
    "kmsconn requests show -c kmsconn.toml ID",
    "kmsconn requests retry -c kmsconn.toml --state failed",
)
_WIDE: Final = 100  # characters of a reason in a list
_TIMES: Final = frozenset({"recorded_at", "answered_at", "closed_at", "next_attempt", "deadline"})


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    list_ = _action(actions, "list", "list requests, the newest first")
    _add_filters(list_)
    list_.add_argument(
        "--limit",
        type=at_least(1),
        default=USUAL,
        metavar="N",
        help=f"maximum number, up to {MOST} ({USUAL})",
    )
    show = _action(actions, "show", "show a request with all its fields")
    show.add_argument("request", metavar="ID", help=REQUEST_HELP)
    retry = _action(actions, "retry", "retry rejected, expired and quarantined requests")
    retry.add_argument("requests", metavar="ID", nargs="*", help=REQUEST_HELP)
    _add_filters(retry)


def _action(actions: Any, name: str, words: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=words, description=words)
    add_asking(action)
    action.set_defaults(action=name)
    return action


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kind",
        action="append",
        default=[],
        metavar="KIND",
        help="of this kind, such as user_decryption; several times",
    )
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        metavar="STATE",
        help="in this state: pending, answered, signed, included, finalized, expired, rejected, quarantined, done, aborted; "
        "failed means rejected, expired or quarantined; several times",
    )
    parser.add_argument("--cause", default="", metavar="TEXT", help="whose reason contains this text")


def execute(arguments: argparse.Namespace) -> int:
    """Ask, and print the answer. Raises ConfigError and StartRefused."""
    command = f"requests.{arguments.action}"
    return ask_and_print(arguments, command, _values(arguments), _AS_TEXT[arguments.action])


def _values(arguments: argparse.Namespace) -> Mapping[str, Any]:
    if arguments.action == "show":
        return {"request": arguments.request}
    filters = {"kinds": arguments.kind, "states": arguments.state, "cause": arguments.cause}
    if arguments.action == "list":
        return {**filters, "limit": arguments.limit}
    return {**filters, "requests": arguments.requests}


def list_as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for each request of a list."""
    for one in answer["requests"]:
        where = "" if one["on_chain"] else " (off chain)"
        reason = " ".join(one["reason"].split())[:_WIDE]
        yield f"{one['row']:>8}  {one['kind']:<22} {one['id']}  {one['state']}{where}  {time_text(one['recorded_at'])}  {reason}"
    if not answer["requests"]:
        yield "no request matches"
    elif answer["before"] is not None:
        yield "there are more requests: add filters, or raise --limit"


def show_as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for each field of each request."""
    for one in answer["requests"]:
        for name, value in one.items():
            yield f"{name:<20} {_value(name, value)}"
        yield ""


def _value(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name in _TIMES:
        return time_text(value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _retry_as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{called(one)}: is retried" for one in answer["retried"])
    yield from refusals(answer["refused"])
    if not answer["retried"] and not answer["refused"]:
        yield "no request matches"


_AS_TEXT: Final = {"list": list_as_text, "show": show_as_text, "retry": _retry_as_text}
