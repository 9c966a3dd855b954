"""Both ends of the control socket of a running connector: one JSON line asks, one JSON line answers, then the connection ends.

Only its owner may connect (mode 0600). No client holds anything up: as the monitoring server, it has at most ``CONNECTIONS``
at a time, takes requests of ``REQUEST_BYTES`` at most, and each step has its deadline. Opened by ``kmsconn run``; an embedding program
may call ``open_control`` itself. Who asks does the same with the journal of a connector that is stopped.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from kmsconn.config.assembly import socket_name
from kmsconn.config.settings import Settings
from kmsconn.connector.connector import Connector
from kmsconn.connector.contracts import PROFILES
from kmsconn.errors import JournalFailed, StartRefused
from kmsconn.journal.journal import open_journal
from kmsconn.observe.status import HealthReport
from kmsconn.operate.control import explaining, quarantine, requests, status
from kmsconn.operate.control.commands import CommandError, Commands, Context, RunningConnector, perform
from kmsconn.requests.checker import DecryptionExpiry
from kmsconn.transport.ports import Ports

CONNECTIONS: Final = 16  # an operator and some scripts; beyond it the oldest that has asked nothing yet is closed, else the new one
REQUEST_BYTES: Final = 64 * 1024
READING: Final = 5.0  # seconds for a request to come
WORKING: Final = 60.0  # seconds for a command
WRITING: Final = 10.0  # seconds for an answer to be taken

COMMANDS: Final[Commands] = {
    **status.COMMANDS, **requests.COMMANDS, **explaining.COMMANDS, **quarantine.COMMANDS,
}  # fmt: skip
"""All commands that a connector understands, by name."""

LONGEST: Final = 107  # bytes, on Linux (unix(7)); fewer elsewhere


def control_path(settings: Settings) -> Path:
    """Return where the control socket of a connector stands: as configured, else beside its journal.

    With a journal in PostgreSQL the configuration's reader names one, and settings from elsewhere get one in the current folder.
    """
    storage = settings.storage
    if storage.control_socket is not None:
        return storage.control_socket
    if isinstance(storage.journal, Path):
        return storage.journal.with_name(storage.journal.name + ".sock")
    return Path(socket_name(settings))


@contextmanager
def address_of(path: Path) -> Generator[str]:
    """Give an address for a path, while the block lasts: where it is too long, by way of its folder. Raises OSError."""
    if len(os.fsencode(path)) <= LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def context_of(connector: Connector, health: Callable[[], HealthReport] | None = None) -> Context:
    """Return what commands work on in a running connector; ``health`` where somebody watches it (``Monitor.health``)."""
    components = connector.components

    def chain_time(chain_id: int) -> float:
        chain_context = components.chain_contexts.get(chain_id)
        timestamp = None if chain_context is None else chain_context.head.timestamp
        return components.ports.wall() if timestamp is None else float(timestamp)

    return Context(
        journal=components.journal,
        profile=components.profile,
        expiry=components.checker.expiry.seconds,
        wall=components.ports.wall,
        chain_time=chain_time,
        wake=lambda kind: components.pool_for[kind].wake_up.notify(),
        running=RunningConnector(connector, components.ports.wall(), health),
    )


@asynccontextmanager
async def open_control(context: Context, path: Path, commands: Commands = COMMANDS) -> AsyncIterator[None]:
    """Serve commands at ``path`` while the block lasts.

    A socket that a killed process left there is replaced: whoever holds the journal's lock is the only one. Raises StartRefused when the
    socket cannot be made. Cancellation: connections are closed at once, and the socket is removed.
    """
    listener = _listen(path)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(_serve, listener, context, commands))
            yield
            nursery.cancel_scope.cancel()
    finally:
        listener.close()
        _remove(path)


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove(path)
        os.fchmod(listener.fileno(), 0o600)  # before there is anything to connect to
        with address_of(path) as address:
            listener.bind(address)
        path.chmod(0o600)  # where the former has no effect
        listener.listen(CONNECTIONS)
    except OSError as error:
        listener.close()
        raise StartRefused(
            f"the control socket {path} cannot be made: {error.strerror or error}; name another path as control_socket"
        ) from error
    return listener


def _remove(path: Path) -> None:
    """Remove a socket, and nothing else. Raises OSError."""
    if path.is_socket():
        path.unlink(missing_ok=True)
    elif path.exists():
        raise FileExistsError(errno.EEXIST, "the path exists and is not a socket")


async def _serve(
    listener: socket.socket,
    context: Context,
    commands: Commands,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    callers = Callers(context, commands)
    accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener.dup()))
    async with accepting, trio.open_nursery() as nursery:
        nursery.start_soon(
            partial(trio.serve_listeners, callers.answer, [accepting], handler_nursery=nursery)
        )
        task_status.started()


class Callers:
    """The connections of a control socket: ``CONNECTIONS`` at most, of which none that only waits keeps another out."""

    def __init__(self, context: Context, commands: Commands = COMMANDS) -> None:
        self._context = context
        self._commands = commands
        self.places = trio.CapacityLimiter(CONNECTIONS)
        self._waiting: dict[trio.CancelScope, None] = {}

    async def answer(self, stream: trio.abc.Stream) -> None:
        """Answer one connection and close it; at once where all places are taken by commands. Cancellation: at any time."""
        async with stream:
            if self.places.available_tokens or self._made_room():
                async with self.places:
                    await self._converse(stream)

    def _made_room(self) -> bool:
        """Put out the connection that has waited longest without a whole request; say whether there was one."""
        longest = next(iter(self._waiting), None)
        if longest is None:
            return False
        del self._waiting[longest]
        longest.cancel()
        return True

    async def _converse(self, stream: trio.abc.Stream) -> None:
        with trio.CancelScope() as waiting:
            self._waiting[waiting] = None
            try:
                await converse(
                    stream, self._context, self._commands, heard=lambda: self._waiting.pop(waiting, None)
                )
            finally:
                self._waiting.pop(waiting, None)


async def converse(
    stream: trio.abc.Stream,
    context: Context,
    commands: Commands = COMMANDS,
    heard: Callable[[], object] = lambda: None,
) -> None:
    """Answer one request of a connection, and call ``heard`` when it is whole.

    Cancellation: at any time. A client that goes away, or is too slow, gets nothing.
    """
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        line = b""
        with trio.move_on_after(READING):
            line = await _line_of(stream)
        heard()
        if line:
            answer = msgspec.json.encode(await _answer(line, context, commands)) + b"\n"
            with trio.move_on_after(WRITING):
                await stream.send_all(answer)


async def _line_of(stream: trio.abc.ReceiveStream) -> bytes:
    """Return the first line with its end, as much of it as may be taken, or nothing where the other side ended before."""
    taken = b""
    while b"\n" not in taken and len(taken) <= REQUEST_BYTES:
        chunk = await stream.receive_some(REQUEST_BYTES)
        if not chunk:
            return b""
        taken += chunk
    return taken


async def _answer(line: bytes, context: Context, commands: Commands) -> dict[str, Any]:
    if len(line) > REQUEST_BYTES:
        return {"error": f"a request has at most {REQUEST_BYTES} bytes"}
    try:
        asked = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return {"error": "a request is one line of JSON"}
    if not isinstance(asked, dict):
        return {"error": 'a request is an object: {"command": …, "arguments": {…}}'}
    try:
        with trio.fail_after(WORKING):
            name, arguments = asked.get("command"), asked.get("arguments", {})
            return {"result": await perform(commands, context, name, arguments)}
    except CommandError as error:
        return {"error": str(error)}
    except JournalFailed as error:
        return {"error": f"the journal cannot be used: {error}"}
    except trio.TooSlowError:
        return {"error": f"the command took longer than {WORKING:g} s; narrow it down"}


# --- who asks


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
        late = f"did not answer within {CONTROL_REPLY_TIMEOUT:g} s"
        raise CommandError(f"the connector behind {path} {late}") from error
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
