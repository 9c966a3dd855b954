"""``kmsconn doctor``, ``health`` and ``top``: what is wrong with everything that the configuration names, and how a running connector is.

None changes anything. Source of ``health``: fhevm-0.14.md 9 (the command of the services of 0.14: status 0 for HTTP 200 alone). ``top`` is
the status page in the terminal, filled and drawn again each second until Ctrl-C; it asks the running connector over its control socket,
or its monitoring address where ``--url`` names one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Never
from urllib.parse import urljoin, urlsplit

import trio

from kmsconn.config.sources import load_config
from kmsconn.errors import Fault, StartRefused, Unreachable
from kmsconn.extras import require_extra
from kmsconn.operate.commands.command import CliCommand, ExitStatus, until_interrupted
from kmsconn.operate.commands.configuration import add_config_argument, add_socket, config_file
from kmsconn.operate.control.commands import CommandError
from kmsconn.operate.control.server import NOBODY_THERE, ask_running, control_path
from kmsconn.operate.doctor.examination import examine
from kmsconn.operate.doctor.machine import as_object, get, reachable, real_machine
from kmsconn.operate.doctor.probing import Diagnosis, as_json, as_text, has_fault, warning
from kmsconn.transport.dialling import real_ports

if TYPE_CHECKING:
    from rich.console import Console

INTERVAL: Final = 1.0
"""Seconds between two looks."""
FETCH_SECONDS: Final = 5.0
"""For an answer, after which the connection counts as lost."""

Fetch = Callable[[], Awaitable[Mapping[str, Any]]]
"""Returns the status of the connector. Raises NotShown."""


class NotShown(StartRefused):
    """The connector's status could not be had."""


def configure_top(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add_config_argument(parser)
    add_socket(parser)
    add, words = parser.add_argument, "the monitoring address of a connector that serves the status page"
    add("--url", metavar="URL", help=words)
    add("--token-file", type=Path, metavar="PATH", help="the token for that address, where it wants one")
    parser.add_argument("--once", action="store_true", help="print the status once and end")


def top(arguments: argparse.Namespace) -> int:
    """Show the status until a signal. Raises ConfigError, ExtraMissing, and NotShown where there is no connector at the start."""
    require_extra("top", "kmsconn top")
    from rich.console import Console

    from kmsconn.operate.commands.top_view import whole

    console, fetch = Console(), _source(arguments)
    if arguments.once or not console.is_terminal:
        console.print(whole(trio.run(fetch)))
    else:
        trio.run(until_interrupted, partial(watch, fetch, console, INTERVAL))
    return ExitStatus.WELL


async def watch(fetch: Fetch, console: Console, interval: float) -> Never:
    """Fill the terminal with the status and draw it anew each ``interval`` seconds, until cancelled. Raises NotShown at the start."""
    from rich.live import Live

    from kmsconn.operate.commands.top_view import TopFrame

    frame = TopFrame(await fetch())
    with Live(frame, console=console, screen=True, auto_refresh=False) as live:
        live.refresh()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_redraw_when_resized, live.refresh)
            while True:
                await trio.sleep(interval)
                await _look(fetch, frame)
                live.refresh()


async def _look(fetch: Fetch, frame: Any) -> None:
    try:
        frame.status, frame.problem = await fetch(), ""
    except NotShown as error:
        frame.problem = str(error)


async def _redraw_when_resized(redraw: Callable[[], None]) -> Never:
    with trio.open_signal_receiver(signal.SIGWINCH) as signals:
        async for _ in signals:
            redraw()
    raise AssertionError("signals have no end")


def _source(arguments: argparse.Namespace) -> Fetch:
    if arguments.url is None:
        return partial(_from_socket, _socket_of(arguments))
    url = f"{arguments.url.rstrip('/')}/status.json"
    return partial(_from_url, url, _authorization(arguments.token_file))


def _socket_of(arguments: argparse.Namespace) -> Path:
    if arguments.socket is not None:
        path: Path = arguments.socket
        return path
    return control_path(load_config(config_file(arguments), environ=os.environ, network=arguments.network))


def _authorization(token_file: Path | None) -> Mapping[str, str]:
    if token_file is None:
        return {}
    try:
        return {"authorization": f"Bearer {token_file.read_text(encoding='ascii').strip()}"}
    except (OSError, UnicodeError) as error:
        raise NotShown(f"{token_file} cannot be read: {error}") from error


async def _from_socket(path: Path) -> Mapping[str, Any]:
    try:
        return _status(await ask_running(path, "status.live", {}))
    except NOBODY_THERE as error:
        raise NotShown(f"no connector listens at {path}: {error.strerror}") from error
    except CommandError as error:
        raise NotShown(str(error)) from error


async def _from_url(url: str, headers: Mapping[str, str]) -> Mapping[str, Any]:
    try:
        with trio.fail_after(FETCH_SECONDS):
            status, body = await get(real_ports(), url, headers)
    except Unreachable as error:
        raise NotShown(f"no connector answers: {error}") from error
    except trio.TooSlowError:
        raise NotShown(f"{url} did not answer within {FETCH_SECONDS:g} s") from None
    if status != HTTPStatus.OK:
        raise NotShown(f"{url} answers with HTTP {status}{_REASONS.get(status, '')}")
    return _status(as_object(body))


_REASONS: Final[Mapping[int, str]] = {
    HTTPStatus.UNAUTHORIZED: ": it wants the token of its status_page_token_file, see --token-file",
    HTTPStatus.NOT_FOUND: ": it does not serve the status page, see the option status_page",
}


def _status(found: Mapping[str, Any]) -> Mapping[str, Any]:
    if "state" not in found:
        raise NotShown("the answer is no status of a connector")
    return found


_VARIABLE: Final = "KMS_CONNECTOR_MONITORING_ENDPOINT"
_DEFAULT: Final = "0.0.0.0:9100"
_HEALTH_REQUEST_SECONDS: Final = 8.0
"""How long the answer may take: less than the ten seconds after which container runtimes give a check up."""


def configure_doctor(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add_config_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    words = "hand one recent public request over to a Core that has no result to read, to learn its signer"
    parser.add_argument("--ask-core", action="store_true", help=words)


def doctor(arguments: argparse.Namespace) -> int:
    """Print a line for each check. Raises ConfigError with all faults of the configuration."""
    settings = load_config(config_file(arguments), environ=os.environ, network=arguments.network)
    run = partial(examine, settings, real_ports(), real_machine(), ask_core=arguments.ask_core)
    lines = [*map(of_configuration, settings.warnings), *trio.run(run)]
    if arguments.json:
        print(json.dumps(as_json(lines), indent=2, ensure_ascii=False))
    else:
        print(*as_text(lines), sep="\n")
    return ExitStatus.FAULTS_FOUND if has_fault(lines) else ExitStatus.WELL


def of_configuration(found: Fault) -> Diagnosis:
    """Return a warning of the configuration as a line."""
    return warning(f"configuration: {found.place}", found.message, found.remedy)


# --- health


def configure_health(parser: argparse.ArgumentParser) -> None:
    """Describe the argument."""
    where = f"the address of {_VARIABLE} ({_DEFAULT})"
    words = f"what to ask: a URL, or a path at {where}; without it /healthz there"
    parser.add_argument("-e", "--endpoint", metavar="URL", default="", help=words)


def health(arguments: argparse.Namespace) -> int:
    """Print what is wrong, or that nothing is. Status 0 for HTTP 200 alone, 1 for every other answer, 2 for a URL that is none."""
    asked = arguments.endpoint
    url = asked if asked and not asked.startswith("/") else urljoin(health_url(os.environ), asked)
    try:
        status, body = ask(url)
    except ValueError as error:
        print(f"kmsconn: {url}: {error}; name it as http://HOST:PORT/healthz", file=sys.stderr)
        return ExitStatus.WRONG_USAGE
    except (OSError, HTTPException) as error:
        print(f"kmsconn: {url} does not answer: {error}", file=sys.stderr)
        return ExitStatus.CRASHED
    print(words_of(status, body))
    return ExitStatus.WELL if status == HTTPStatus.OK else ExitStatus.CRASHED


def health_url(environ: Mapping[str, str]) -> str:
    """Return the URL of /healthz on this machine; the variable may hold an address, or a URL as the services of 0.14 read it."""
    written = environ.get(_VARIABLE, "").strip() or _DEFAULT
    if "://" in written:
        return written
    host, _, port = written.rpartition(":")
    return f"http://{reachable(host)}:{port}/healthz"


def ask(url: str) -> tuple[int, bytes]:
    """Send one GET and return status and body. Raises OSError, HTTPException, and ValueError for a URL that is none."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError("is no http:// URL")
    connection = HTTPConnection(parts.hostname, parts.port or 80, timeout=_HEALTH_REQUEST_SECONDS)
    try:
        connection.request("GET", parts.path or "/healthz")
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def words_of(status: int, body: bytes) -> str:
    """Return the details of a health answer, one line each; of any other answer only its status."""
    details = as_object(body).get("details")
    lines = str(details).split("; ") if details else ["well" if status == HTTPStatus.OK else "no details"]
    return "\n".join((f"HTTP {status}: {lines[0]}", *lines[1:]))


COMMANDS: Final = {
    "doctor": CliCommand(configure_doctor, doctor),
    "health": CliCommand(configure_health, health),
    "top": CliCommand(configure_top, top),
}
