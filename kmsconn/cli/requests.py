"""``kmsconn requests list|show|retry``: what became of requests, and letting failed ones begin again. Decides nothing about them.

It asks the running connector over its control socket; where none runs, it opens the journal itself.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from kmsconn.cli.arguments import at_least
from kmsconn.cli.endings import ExitStatus
from kmsconn.cli.validate import add_config_argument, config_file
from kmsconn.config.sources import load_config
from kmsconn.control.address import control_path
from kmsconn.control.client import NOBODY_THERE, ask_running, ask_stopped
from kmsconn.control.commands import CommandError
from kmsconn.control.requests import MOST, USUAL
from kmsconn.errors import StartRefused
from kmsconn.transport.real import real_ports

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
    show.add_argument("request", metavar="ID", help="on-chain id with 0x, or row number of the journal")
    retry = _action(actions, "retry", "retry rejected, expired and quarantined requests")
    retry.add_argument(
        "requests", metavar="ID", nargs="*", help="on-chain id with 0x, or row number of the journal"
    )
    _add_filters(retry)


def _action(actions: Any, name: str, words: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=words, description=words)
    add_config_argument(action)
    action.add_argument(
        "--socket",
        type=Path,
        metavar="PATH",
        help="the control socket of a running connector; no configuration is read",
    )
    action.add_argument("--json", action="store_true", help="print one JSON object")
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
    try:
        answer = trio.run(partial(_ask, arguments, f"requests.{arguments.action}", _values(arguments)))
    except CommandError as error:
        print(f"kmsconn: {error}", file=sys.stderr)
        return ExitStatus.WRONG_USAGE
    if arguments.json:
        print(msgspec.json.encode(answer).decode())
    else:
        for line in _AS_TEXT[arguments.action](answer):
            print(line)
    return ExitStatus.REFUSED if arguments.action == "retry" and answer["refused"] else ExitStatus.WELL


def _values(arguments: argparse.Namespace) -> Mapping[str, Any]:
    if arguments.action == "show":
        return {"request": arguments.request}
    filters = {"kinds": arguments.kind, "states": arguments.state, "cause": arguments.cause}
    if arguments.action == "list":
        return {**filters, "limit": arguments.limit}
    return {**filters, "requests": arguments.requests}


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


def _list_as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    for one in answer["requests"]:
        where = "" if one["on_chain"] else " (off chain)"
        reason = " ".join(one["reason"].split())[:_WIDE]
        yield f"{one['row']:>8}  {one['kind']:<20} {one['id']}  {one['state']}{where}  {_time(one['recorded_at'])}  {reason}"
    if not answer["requests"]:
        yield "no request matches"
    elif answer["before"] is not None:
        yield "there are more requests: add filters, or raise --limit"


def _show_as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    for one in answer["requests"]:
        for name, value in one.items():
            yield f"{name:<20} {_value(name, value)}"
        yield ""


def _value(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name in _TIMES:
        return _time(value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _retry_as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"row {one['row']}, {one['kind']} {one['id']}: is retried" for one in answer["retried"])
    yield from _refusals(answer["refused"])
    if not answer["retried"] and not answer["refused"]:
        yield "no request matches"


def _refusals(refused: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield from (f"row {one['row']}, {one['kind']} {one['id']}: is unchanged: {one['why']}" for one in refused)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


_AS_TEXT: Final = {"list": _list_as_text, "show": _show_as_text, "retry": _retry_as_text}
