"""``kmsconn health``: asks a running connector for its health over the monitoring address. For container health checks and scripts.

Source: fhevm-0.14.md 9 (the command of the services of 0.14: status 0 for HTTP 200 alone).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from kmsconn.operate.commands.endings import ExitStatus

EXAMPLES: Final = (
    "kmsconn health",
    "kmsconn health --endpoint /liveness",
)

_VARIABLE: Final = "KMS_CONNECTOR_MONITORING_ENDPOINT"
_DEFAULT: Final = "0.0.0.0:9100"
_HEALTH_REQUEST_SECONDS: Final = 8.0
"""How long the answer may take: less than the ten seconds after which container runtimes give a check up."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the argument."""
    words = (
        f"what to ask: a URL, or a path at the address of {_VARIABLE} ({_DEFAULT}); without it /healthz there"
    )
    parser.add_argument("-e", "--endpoint", metavar="URL", default="", help=words)


def execute(arguments: argparse.Namespace) -> int:
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
    return f"http://{_reachable(host)}:{port}/healthz"


def _reachable(host: str) -> str:
    """Return where a listener on all addresses can be asked."""
    return {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - an address that is read, not bound


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
