"""The commands that ask a running connector over its control socket, or the journal of one that is stopped; and what they print.

Their arguments are those of ``operate.control``; here is how an answer is told. Decides nothing about requests.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import attrs
import msgspec
import trio

from kmsconn.config.sources import load_config
from kmsconn.errors import StartRefused
from kmsconn.operate.commands import status
from kmsconn.operate.commands.command import ExitStatus, duration_text, time_text
from kmsconn.operate.commands.configuration import add_config_argument, add_socket, config_file
from kmsconn.operate.control.client import NOBODY_THERE, ask_running, ask_stopped
from kmsconn.operate.control.commands import CommandError
from kmsconn.operate.control.server import COMMANDS as CONTROL
from kmsconn.operate.control.server import control_path
from kmsconn.transport.dialling import real_ports

AsText = Callable[[Any], Iterable[str]]

_WIDE: Final = 100  # characters of a reason in a list
_TIMES: Final = frozenset({"recorded_at", "answered_at", "closed_at", "next_attempt", "deadline", "found_at"})


@attrs.frozen
class Operator:
    """A command of an operator, or several actions: how the answer of each command of the control socket is told."""

    shown: Mapping[str, AsText]

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Describe the arguments, of each action where there are several."""
        several = len(self.shown) > 1
        actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True) if several else None
        for name in self.shown:
            words = CONTROL[name].words
            action = actions and actions.add_parser(name.partition(".")[2], help=words, description=words)
            add_arguments(action or parser, name)

    def execute(self, arguments: argparse.Namespace) -> int:
        """Ask, and print the answer. Raises ConfigError and StartRefused."""
        name: str = arguments.command
        values = {one.name: getattr(arguments, one.name) for one in CONTROL[name].arguments if one.form}
        return ask_and_print(arguments, name, values, self.shown[name])


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """Describe whom to ask, in which form to print the answer, and the arguments of a command of the control socket."""
    add_config_argument(parser)
    add_socket(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for one in CONTROL[name].arguments:
        if one.written:
            parser.add_argument(one.written, dest=one.name, **one.form)
        elif one.form:
            parser.add_argument(one.name, **one.form)
    parser.set_defaults(command=name)


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


def called(one: Mapping[str, Any]) -> str:
    """Return what a request, or a log, is called."""
    return f"row {one['row']}, {one['kind']} {one['id']}" if "row" in one else f"log {one['log']}"


# --- how answers are told


def _requests(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for each request of a list."""
    for one in answer["requests"]:
        where = "" if one["on_chain"] else " (off chain)"
        reason = " ".join(one["reason"].split())[:_WIDE]
        yield f"{one['row']:>8}  {one['kind']:<22} {one['id']}  {one['state']}{where}  {time_text(one['recorded_at'])}  {reason}"
    if not answer["requests"]:
        yield "no request matches"
    elif answer["before"] is not None:
        yield "there are more requests: add filters, or raise --limit"


def _request(answer: Mapping[str, Any]) -> Iterator[str]:
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


_DONE: Final = {"retried": "is retried", "dropped": "is dropped", "skipped": "is skipped"}
_KNOWN: Final = "its request was known already; the log is dropped"


def _done(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was done to requests or logs, and why others are unchanged."""
    for key, words in _DONE.items():
        yield from (f"{called(one)}: {_KNOWN if one.get('known') else words}" for one in answer.get(key, ()))
    yield from (f"{called(one)}: is unchanged: {one['why']}" for one in answer["refused"])
    if not any(answer.values()):
        yield "no request matches"


def _quarantined(answer: Mapping[str, Any]) -> Iterator[str]:
    for one in answer["logs"]:
        yield f"{one['log']:<16} log of block {one['block']}, {one['contract']}  {time_text(one['found_at'])}  {one['reason']}"
    if answer["requests"]:
        yield from _requests({**answer, "before": None})
    if not answer["logs"] and not answer["requests"]:
        yield "nothing is quarantined"


def _quarantined_one(answer: Mapping[str, Any]) -> Iterator[str]:
    yield from _request({"requests": [*answer["logs"], *answer["requests"]]})


def _explained(answer: Mapping[str, Any]) -> Iterator[str]:
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


def _paused(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield whether it was paused, and all that is paused now."""
    yield f"{answer['kind']}: {'is paused' if answer['changed'] else 'was paused already'}; requests are recorded and wait"
    yield from status.pauses(answer, "  paused: ")


def _resumed(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield whether it was resumed, and what is still paused."""
    yield f"{answer['kind']}: {'is resumed' if answer['changed'] else 'was not paused'}"
    yield from status.pauses(answer, "  paused: ")


def _replayed(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield each comparison, and what they amount to."""
    for one in answer["checks"]:
        yield f"{one['check']:<12} {_SAME[one['same']]:<10} {one['found']}"
    yield f"{called(answer)}: {'nothing differs' if answer['same'] else 'the reply differs from what its inputs give'}"


_SAME: Final = {True: "same", False: "DIFFERENT", None: "unknown"}

COMMANDS: Final[Mapping[str, Operator]] = {
    "status": Operator({"status": status.as_text}),
    "explain": Operator({"explain": _explained}),
    "requests": Operator({"requests.list": _requests, "requests.show": _request, "requests.retry": _done}),
    "quarantine": Operator(
        {
            "quarantine.list": _quarantined,
            "quarantine.show": _quarantined_one,
            "quarantine.retry": _done,
            "quarantine.drop": _done,
        }
    ),
    "pause": Operator({"pause": _paused}),
    "resume": Operator({"resume": _resumed}),
    "skip": Operator({"skip": _done}),
    "replay": Operator({"replay": _replayed}),
}
