"""Who holds which lease of a PostgreSQL journal, and how long it takes until another process does. Disturbs nobody."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from bench.figures import Spread
from bench.table import milliseconds

if TYPE_CHECKING:
    import psycopg

LOOK: Final = 0.01  # seconds between looks at the leases while they go over
LONGEST: Final = 30.0  # seconds for which a hand-over is waited for
STARTING: Final = 60.0
HELD: Final = (
    b"SELECT lease.name, lease.token, split_part(member.name, '@', 1) FROM lease JOIN member USING (token)"
)

Held = Mapping[str, tuple[int, str]]
"""Of each lease the token and the name of the process that holds it."""
AskHeld = Callable[[], Awaitable[Held]]


@attrs.frozen
class HandOver:
    """A lease that went over to another process, in so many seconds from the disturbance."""

    kind: str
    lease: str
    seconds: float


@asynccontextmanager
async def open_leases(url: str) -> AsyncIterator[AskHeld]:
    """Connect to the database of a journal while the block lasts; gives what asks it who holds what."""
    connection = await _until_connected(url)

    async def ask() -> Held:
        return await trio.to_thread.run_sync(partial(_held, connection))

    try:
        yield ask
    finally:
        connection.close()


async def until_held(ask: AskHeld) -> None:
    """Wait until a process has made the tables and taken leases."""
    with trio.fail_after(STARTING):
        while not await ask():  # noqa: ASYNC110 - other processes take them
            await trio.sleep(LOOK)


def held_by(held: Held, name: str) -> dict[str, int]:
    """Return the leases of one process, with its token."""
    return {lease: token for lease, (token, who) in held.items() if who == name}


async def follow(
    ask: AskHeld, kind: str, before: Mapping[str, int], found: list[HandOver], kept_after: float = math.inf
) -> int:
    """Note when each lease went over to another member, and return how many did not in time.

    Leases that all are where they were after ``kept_after`` seconds were never lost.
    """
    began, waiting = trio.current_time(), dict(before)
    with trio.move_on_after(LONGEST):
        while waiting:
            held = await ask()
            passed = trio.current_time() - began
            for lease in _gone_over(held, waiting):
                del waiting[lease]
                found.append(HandOver(kind, lease, passed))
            if passed > kept_after and _are_kept(held, waiting):
                return 0
            await trio.sleep(LOOK)
    return len(waiting)


def _gone_over(held: Held, waiting: Mapping[str, int]) -> list[str]:
    return [lease for lease, token in waiting.items() if lease in held and held[lease][0] != token]


def _are_kept(held: Held, waiting: Mapping[str, int]) -> bool:
    return all(lease in held and held[lease][0] == token for lease, token in waiting.items())


def in_words(times: Spread) -> str:
    """Return how long hand-overs took as text."""
    shown = f"p50 {milliseconds(times.p50)} ms, p99 {milliseconds(times.p99)} ms, most {milliseconds(times.most)} ms"
    return f"{times.count} leases, {shown}"


def _held(connection: psycopg.Connection[Any]) -> Held:
    from psycopg.errors import UndefinedTable

    try:
        return {lease: (token, who) for lease, token, who in connection.execute(HELD).fetchall()}
    except UndefinedTable:
        return {}


async def _until_connected(url: str) -> psycopg.Connection[Any]:
    """Return a connection to the database once it takes some."""
    import psycopg

    with trio.fail_after(STARTING):
        while True:
            with suppress(psycopg.OperationalError):
                return psycopg.connect(url, autocommit=True)
            await trio.sleep(LOOK)
