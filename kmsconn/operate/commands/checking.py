"""``kmsconn doctor`` and ``kmsconn health``: what is wrong with everything that the configuration names, and how a running connector is.

Neither changes anything. Source of ``health``: fhevm-0.14.md 9 (the command of the services of 0.14: status 0 for HTTP 200 alone).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import trio

from kmsconn.config.sources import load_config
from kmsconn.errors import Fault
from kmsconn.operate.commands.command import CliCommand, ExitStatus
from kmsconn.operate.commands.configuration import add_config_argument, config_file
from kmsconn.operate.doctor.diagnosis import Diagnosis, as_json, as_text, has_fault, warning
from kmsconn.operate.doctor.examination import examine
from kmsconn.operate.doctor.machine import reachable, real_machine
from kmsconn.transport.dialling import real_ports

_VARIABLE: Final = "KMS_CONNECTOR_MONITORING_ENDPOINT"
_DEFAULT: Final = "0.0.0.0:9100"
_HEALTH_REQUEST_SECONDS: Final = 8.0
"""How long the answer may take: less than the ten seconds after which container runtimes give a check up."""


def configure_doctor(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add_config_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--ask-core",
        action="store_true",
        help="hand one recent public request over to a Core that has no result to read, to learn its signer",
    )


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
    words = (
        f"what to ask: a URL, or a path at the address of {_VARIABLE} ({_DEFAULT}); without it /healthz there"
    )
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
    try:
        answer: Any = json.loads(body)
    except ValueError:
        answer = None
    details = answer.get("details") if isinstance(answer, dict) else None
    lines = str(details).split("; ") if details else ["well" if status == HTTPStatus.OK else "no details"]
    return "\n".join((f"HTTP {status}: {lines[0]}", *lines[1:]))


COMMANDS: Final = {
    "doctor": CliCommand(configure_doctor, doctor),
    "health": CliCommand(configure_health, health),
}
