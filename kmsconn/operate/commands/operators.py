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

from kmsconn.config.description import Role
from kmsconn.config.sources import load_config
from kmsconn.errors import StartRefused
from kmsconn.operate.commands.command import ExitStatus, duration_text, time_text
from kmsconn.operate.commands.configuration import add_config_argument, add_socket, config_file
from kmsconn.operate.control.commands import CommandError
from kmsconn.operate.control.server import COMMANDS as CONTROL
from kmsconn.operate.control.server import NOBODY_THERE, ask_running, ask_stopped, control_path
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
        """Ask, and print the answer; something in it that was ``refused`` is an exit status. Raises ConfigError and StartRefused."""
        name: str = arguments.command
        values = {one.name: getattr(arguments, one.name) for one in CONTROL[name].arguments if one.form}
        try:
            answer = trio.run(partial(_ask, arguments, name, values))
        except CommandError as error:
            print(f"kmsconn: {error}", file=sys.stderr)
            return ExitStatus.WRONG_USAGE
        if arguments.json:
            print(msgspec.json.encode(answer).decode())
        else:
            for line in self.shown[name](answer):
                print(line)
        return ExitStatus.REFUSED if answer.get("refused") or answer.get("same") is False else ExitStatus.WELL


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


def _changed(now: str, before: str, answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield whether a kind was paused or resumed, and all that is paused now."""
    yield f"{answer['kind']}: {now if answer['changed'] else before}"
    yield from pauses(answer, "  paused: ")


_WAIT: Final = "; requests are recorded and wait"


def _replayed(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield each comparison, and what they amount to."""
    for one in answer["checks"]:
        yield f"{one['check']:<12} {_SAME[one['same']]:<10} {one['found']}"
    yield f"{called(answer)}: {'nothing differs' if answer['same'] else 'the reply differs from what its inputs give'}"


_SAME: Final = {True: "same", False: "DIFFERENT", None: "unknown"}


# --- ``kmsconn status``: how a connector is, on one screen; of a stopped one, what its journal knows


_ETHER: Final = 10**18  # wei
_LABEL: Final = 14  # characters of the names on the left
_ALL_ROLES: Final = len(Role)
_LONG_SILENT: Final = 10.0  # seconds: twice the usual lease
_NUMBERS: Final = {
    "off chain": "off_chain",
    "undecodable": "undecodable_logs",
    "damaged rows": "damaged_rows",
}
_COUNTED: Final = {"reads": "contract", "sends": "account"}
"""What is leased several times, by the first word of the lease."""


def status_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the screen."""
    yield _row(answer["profile"], f"kmsconn {answer['version']}, {_state(answer)}")
    if answer["running"] and answer["details"] and not answer["alerts"]:  # which say it with their remedies
        yield _row("", answer["details"])
    yield from _counts_of(answer)
    yield from _contracts(answer)
    for one in answer.get("processes", ()):
        yield _row("process", _member(one))
    for role in _missing_roles(answer.get("processes", ())):
        yield _row("NOBODY", f"has the role {role}: requests wait until a process with it is started")
    for one in answer.get("different_settings", ()):
        yield _row("DIFFERENT", f"{one['option']}: {one['text']}; set it alike in all processes")
    if answer["running"]:
        yield from _process(answer)


def _contracts(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield how far each contract is read, and how far that is behind the head where a connector runs."""
    heads = {chain["chain_id"]: chain["head"] for chain in answer.get("chains", {}).values()}
    for one in answer["cursors"]:
        head = heads.get(one["chain_id"])
        behind = "" if head is None else f", {max(0, head + 1 - one['next_block'])} blocks behind the head"
        yield _row("contract", f"{one['contract']} of chain {one['chain_id']}, read below block {one['next_block']}{behind}")  # fmt: skip


def _row(label: str, text: str) -> str:
    return f"{label:<{_LABEL}} {' '.join(text.split(chr(10)))}"


def _state(answer: Mapping[str, Any]) -> str:
    if not answer["running"]:
        number = len(answer.get("processes", ()))
        if not number:
            return "stopped; this is what its journal knows"
        return f"{number} process{'es' if number > 1 else ''} at work; this is what their journal knows"
    words = {True: "healthy", False: "not healthy", None: "health unknown"}[answer["healthy"]]
    ready = "draining" if answer["draining"] else "ready" if answer["ready"] else "not ready"
    return f"up for {duration_text(answer['uptime'])}, {ready}, {words}"


def _counts_of(answer: Mapping[str, Any]) -> Iterator[str]:
    for kind, states in answer["requests"].items():
        yield _row(kind, ", ".join(f"{rows} {state}" for state, rows in states.items()))
    if not answer["requests"]:
        yield _row("requests", "none yet")
    oldest = answer["oldest_request"]
    if oldest is not None:
        named = f"row {oldest['row']}, {oldest['kind']} {oldest['id']}"
        reason = f": {oldest['reason']}" if oldest["reason"] else ""
        yield _row("oldest open", f"{named}, for {duration_text(oldest['seconds'])}{reason}")
    for label, key in _NUMBERS.items():
        if answer[key]:
            yield _row(label, str(answer[key]))
    yield from pauses(answer, f"{'PAUSED':<{_LABEL}} ")


def pauses(answer: Mapping[str, Any], label: str) -> Iterator[str]:
    """Yield the kinds that are paused now."""
    for one in answer["paused"]:
        said = f": {one['reason']}" if one["reason"] else ""
        yield f"{label}{one['kind']} since {time_text(one['since'])}{said}"


def _process(answer: Mapping[str, Any]) -> Iterator[str]:
    yield _row("workers", ", ".join(f"{name} {one['busy']}/{one['places']}" for name, one in answer["workers"].items()))  # fmt: skip
    for name, chain in answer["chains"].items():
        yield _row(name, _chain(chain))
    for name, core in answer["cores"].items():
        yield _row(name, {True: "serves", None: "not asked yet"}.get(core["serving"], core["text"]))
    for name, one in answer["buckets"].items():
        yield _row("bucket", f"{name}: asked {one['asked']} times, failed {one['failed']}")
    for name, one in answer["transactions"].items():
        yield _row(f"sends {name}"[:_LABEL], _transactions(one))
    if answer["missing_requests"]:
        yield _row("missing", f"{answer['missing_requests']} requests that the contract has numbered")
    for one in answer["alerts"] or ():
        yield _row(one["severity"].upper(), f"{one['dependency']}: {one['text']}")
        if one["remedy"]:
            yield _row("", f"→ {one['remedy']}")


def _missing_roles(processes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the roles that none of several processes has."""
    there = {role for one in processes for role in one["roles"]}
    return [role.value for role in Role if there and role not in there]


def _member(one: Mapping[str, Any]) -> str:
    """Tell of a process over a journal in PostgreSQL what it holds, and the roles it has where those are not all."""
    roles = "" if len(one["roles"]) == _ALL_ROLES else f", {' '.join(one['roles'])} only"
    silent = f", SILENT for {duration_text(one['silent'])}" if one["silent"] > _LONG_SILENT else ""
    return f"{one['name']}, up for {duration_text(one['uptime'])}{roles}{silent}: {', '.join(_duties(one['leases'])) or 'no lease'}"


def _duties(leases: Iterable[str]) -> Iterator[str]:
    """Name what a process holds: the leases of several contracts, or accounts, by their number."""
    by_kind: dict[str, list[str]] = {}
    for lease in leases:
        kind, _, of = lease.partition(" ")
        by_kind.setdefault(kind, []).append(of)
    for kind, several in by_kind.items():
        several_of = f"{_COUNTED.get(kind)}{'s' if len(several) > 1 else ''}"
        yield f"{kind} {f'{len(several)} {several_of}' if kind in _COUNTED else ', '.join(several)}".strip()


def _chain(chain: Mapping[str, Any]) -> str:
    words = [chain["endpoint"] or "no connection"]
    if chain["head"] is not None:
        words.append(f"head {chain['head']}, {duration_text(chain['head_age'])} ago")
    if chain["finalized_age"] is not None:
        words.append(f"final {duration_text(chain['finalized_age'])} ago")
    if chain["reconnects"]:
        words.append(f"{chain['reconnects']} reconnects")
    return ", ".join(words)


def _transactions(one: Mapping[str, Any]) -> str:
    balance = "unknown" if one["balance"] is None else f"{int(one['balance']) / _ETHER:.6g} ether"
    left = "" if one["replies_left"] is None else f" ({one['replies_left']} replies)"
    nonce = "unknown" if one["next_nonce"] is None else one["next_nonce"]
    replies = f"{one['waiting']} waiting, {one['in_flight']} in flight, {one['included']} included"
    return f"next nonce {nonce}, {replies}, balance {balance}{left}"


COMMANDS: Final[Mapping[str, Operator]] = {
    "status": Operator({"status": status_lines}),
    "explain": Operator({"explain": _explained}),
    "requests": Operator({"requests.list": _requests, "requests.show": _request, "requests.retry": _done}),
    "quarantine": Operator(
        {
            "quarantine.list": _quarantined,
            "quarantine.show": lambda answer: _request({"requests": [*answer["logs"], *answer["requests"]]}),
            "quarantine.retry": _done,
            "quarantine.drop": _done,
        }
    ),
    "pause": Operator({"pause": partial(_changed, f"is paused{_WAIT}", f"was paused already{_WAIT}")}),
    "resume": Operator({"resume": partial(_changed, "is resumed", "was not paused")}),
    "skip": Operator({"skip": _done}),
    "replay": Operator({"replay": _replayed}),
}
