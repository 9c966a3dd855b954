"""The control socket of a running connector: one JSON line asks, one JSON line answers, then the connection ends.

Only its owner may connect (mode 0600). No client holds anything up: as the monitoring server, it has at most ``CONNECTIONS``
at a time, takes requests of ``REQUEST_BYTES`` at most, and each step has its deadline. Opened by ``kmsconn run``; an embedding program
may call ``open_control`` itself.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from kmsconn.config.settings import Settings
from kmsconn.config.storage import socket_name
from kmsconn.connector.connector import Connector
from kmsconn.errors import JournalFailed, StartRefused
from kmsconn.observe.health import HealthReport
from kmsconn.operate.control import explaining, quarantine, requests, status
from kmsconn.operate.control.commands import (
    CommandError,
    Commands,
    Context,
    RunningConnector,
    perform,
)

CONNECTIONS: Final = 16  # an operator and some scripts; beyond it a connection is closed at once
REQUEST_BYTES: Final = 64 * 1024
READING: Final = 5.0  # seconds for a request to come
WORKING: Final = 60.0  # seconds for a command
WRITING: Final = 10.0  # seconds for an answer to be taken

COMMANDS: Final[Commands] = {
    **status.COMMANDS,
    **requests.COMMANDS,
    **explaining.COMMANDS,
    **quarantine.COMMANDS,
}
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
        wake=lambda kind: components.pool_for(kind).wake_up.notify(),
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
    places = trio.CapacityLimiter(CONNECTIONS)

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            if places.available_tokens:
                async with places:
                    await converse(stream, context, commands)

    accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener.dup()))
    async with accepting, trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, answer, [accepting], handler_nursery=nursery))
        task_status.started()


async def converse(stream: trio.abc.Stream, context: Context, commands: Commands = COMMANDS) -> None:
    """Answer one request of a connection. Cancellation: at any time. A client that goes away, or is too slow, gets nothing."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        line = b""
        with trio.move_on_after(READING):
            line = await _line_of(stream)
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
            return {
                "result": await perform(commands, context, asked.get("command"), asked.get("arguments", {}))
            }
    except CommandError as error:
        return {"error": str(error)}
    except JournalFailed as error:
        return {"error": f"the journal cannot be used: {error}"}
    except trio.TooSlowError:
        return {"error": f"the command took longer than {WORKING:g} s; narrow it down"}
