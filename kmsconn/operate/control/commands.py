"""The commands that a connector understands, by name: what each takes, and what it does. Knows no socket and no terminal.

A command takes the values of a JSON object and returns what becomes one. It works on a ``Context``, which a running connector and the
journal of a stopped one can both give.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs

from kmsconn.errors import KmsconnError
from kmsconn.journal.journal import Journal
from kmsconn.journal.values import Row
from kmsconn.model.events import OnEvent
from kmsconn.model.requests import Kind
from kmsconn.model.steps import Answered
from kmsconn.observe.health import HealthReport
from kmsconn.protocols.profile import Profile
from kmsconn.requests.dispatcher import WorkerPool
from kmsconn.requests.snapshot import Statistics

Arguments = Mapping[str, Any]


class CommandError(KmsconnError):
    """A command was not done: it is unknown, or what it was given is wrong."""


@attrs.frozen
class RowAtWork:
    """A row that a worker has, and the stage that it is in for ``seconds``; empty between two stages."""

    pool: str
    stage: str = ""
    seconds: float = 0.0


@attrs.frozen
class RunningConnector:
    """What only a running connector knows and does. ``started`` is a wall time.

    ``at_work`` says which worker has a row; ``ended`` is told of a request that a command has ended, with the reason; ``answer_again``
    asks the Core for a row's answer once more and sends nothing; ``health`` is None where nobody watches it.
    """

    started: float
    statistics: Callable[[], Statistics]
    at_work: Callable[[int], RowAtWork | None]
    pool_of: Callable[[Kind], WorkerPool]
    ended: Callable[[Row, str], None]
    answer_again: Callable[[Row], Awaitable[Answered]]
    on_event: OnEvent
    health: Callable[[], HealthReport] | None = None


@attrs.frozen
class Context:
    """The objects that commands work on. ``chain_time`` is the time of a chain by its id; ``wake`` wakes the dispatcher of a kind.

    ``running`` is None with the journal of a connector that is stopped.
    """

    journal: Journal
    profile: Profile
    expiry: Callable[[], float]
    wall: Callable[[], float]
    chain_time: Callable[[int], float]
    wake: Callable[[Kind], None] = lambda _kind: None
    running: RunningConnector | None = None


@attrs.frozen
class Command:
    """One command: a word on it, the names of its arguments, and what runs it."""

    help: str
    arguments: frozenset[str]
    run: Callable[[Context, Arguments], Awaitable[Any]]


Commands = Mapping[str, Command]


async def perform(commands: Commands, context: Context, name: object, arguments: object) -> Any:
    """Run a command by its name. Raises CommandError, and JournalFailed where the disk does not take it."""
    command = commands.get(name) if isinstance(name, str) else None
    if command is None:
        raise CommandError(f"there is no command {name!r:.80}; there are {', '.join(sorted(commands))}")
    if not isinstance(arguments, Mapping):
        raise CommandError(f"the arguments of {name} must be an object")
    if unknown := sorted(set(arguments) - command.arguments):
        raise CommandError(
            f"{name} takes no {', '.join(unknown):.80}; it takes {', '.join(sorted(command.arguments)) or 'nothing'}"
        )
    return await command.run(context, arguments)
