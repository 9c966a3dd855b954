"""Asks the control socket of a running connector; or does the same with the journal of one that is stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from kmsconn.config.settings import Settings
from kmsconn.connector.wiring import PROFILES
from kmsconn.errors import StartRefused
from kmsconn.journal.journal import open_journal
from kmsconn.operate.control.commands import CommandError, Context, perform
from kmsconn.operate.control.server import COMMANDS, address_of, control_path
from kmsconn.requests.checker import DecryptionExpiry
from kmsconn.transport.ports import Ports

CONTROL_REPLY_TIMEOUT: Final = 90.0  # seconds: more than the server takes for any command
ANSWER_BYTES: Final = 64 << 20

NOBODY_THERE = (FileNotFoundError, ConnectionRefusedError)


async def ask(stream: trio.abc.Stream, command: str, arguments: Mapping[str, Any]) -> Any:
    """Have a command done at the other end of a stream. Raises CommandError with what the connector said."""
    await stream.send_all(msgspec.json.encode({"command": command, "arguments": arguments}) + b"\n")
    taken = bytearray()
    while not taken.endswith(b"\n") and len(taken) <= ANSWER_BYTES:
        chunk = await stream.receive_some(1 << 20)
        if not chunk:
            break
        taken += chunk
    return _result(bytes(taken))


def _result(line: bytes) -> Any:
    try:
        answer = msgspec.json.decode(line)
    except msgspec.DecodeError:
        answer = None
    if not isinstance(answer, dict) or answer.keys() not in ({"result"}, {"error"}):
        raise CommandError(
            "the connector closed the connection without an answer: it serves too many clients, or it ended; try again"
        )
    if "error" in answer:
        raise CommandError(str(answer["error"]))
    return answer["result"]


async def ask_running(path: Path, command: str, arguments: Mapping[str, Any]) -> Any:
    """Have the connector behind a control socket do a command.

    Raises CommandError; FileNotFoundError or ConnectionRefusedError where nobody is there; StartRefused where one may not ask.
    """
    try:
        with address_of(path) as address, trio.fail_after(CONTROL_REPLY_TIMEOUT):
            async with await trio.open_unix_socket(address) as stream:
                return await ask(stream, command, arguments)
    except PermissionError as error:
        raise StartRefused(
            f"the control socket {path} belongs to another user: run the command as that user, or as root"
        ) from error
    except trio.TooSlowError as error:
        raise CommandError(
            f"the connector behind {path} did not answer within {CONTROL_REPLY_TIMEOUT:g} s"
        ) from error
    except trio.BrokenResourceError as error:
        raise CommandError(f"the connector behind {path} ended the connection") from error


async def ask_stopped(settings: Settings, ports: Ports, command: str, arguments: Mapping[str, Any]) -> Any:
    """Do a command with the journal of a stopped connector, under its lock; chain time is then this machine's.

    Raises CommandError; StartRefused where there is no journal, or a process uses it and does not listen at its control socket.
    """
    where = settings.storage.journal
    if isinstance(where, Path) and not where.exists():
        raise StartRefused(
            f"there is no journal {where}, and no connector listens at {control_path(settings)}: "
            "run this with the configuration of the connector"
        )
    shards = len(settings.core.core_endpoints)
    try:
        async with open_journal(where, None, ports.offload, ports.wall, shards=shards) as journal:
            try:
                return await perform(COMMANDS, _context(settings, ports, journal), command, arguments)
            except CommandError as error:
                said = error
    except StartRefused as refused:
        raise StartRefused(
            f"{refused}; no connector listens at {control_path(settings)} (a connector that is embedded, or has another control_socket?)"
        ) from refused
    raise said  # outside the journal's nursery, which would raise it in a group


def _context(settings: Settings, ports: Ports, journal: Any) -> Context:
    profile = PROFILES[settings.protocol.profile](settings)
    expiry = DecryptionExpiry(settings.work.decryption_expiry)
    return Context(journal, profile, expiry.seconds, ports.wall, lambda _chain: ports.wall())
