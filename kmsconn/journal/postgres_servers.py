"""Which of several servers has the journal of today, and what stands before it: refuses one that a fail-over left behind, and some poolers.

As a standby is promoted it begins a *timeline* with a higher number than its primary's. A primary that comes back after that, and takes
writes, has the journal as it was before: processes on either side would answer the same requests. So a process that has met a timeline
connects to no server of a lower one, and gives connections up that it has there. Only servers that are copies of each other are compared:
they have one system identifier. A server that does not tell, as managed ones may, is taken as it comes. Two standbys that were promoted
both may have timelines of one number: that is not noticed.

A pooler makes up the number of the server's process that it tells as a connection begins, so a number that is not that of the process
which answers shows one. In session mode one process serves a connection as long as it lasts, and nobody else. In transaction mode a process
serves whoever has a transaction: it is found once another connection is served by the same one, or this one by another. That mode breaks
prepared statements, LISTEN and what is set for a session, and would set it for others.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import Any, Final

import attrs
import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from kmsconn.errors import StartRefused
from kmsconn.journal.postgres_refusals import BREAKS, REMEDY, PoolerMode

FIRST_REPLY: Final = (
    15.0  # seconds for the first statements: a pooler lets them wait until a connection is free
)
_NO_ANSWER: Final = "no answer to the first statement: a pooler before the server may have no connection left (default_pool_size)"
_DONE: Final = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK})


def ask_plainly(connection: psycopg.Connection[Any], statements: str) -> str:
    """Run statements on a connection outside pipeline mode, and return the first value of the last one as text; nothing where it has none.

    Raises OperationalError where no answer comes in time: unlike a server, a pooler lets the first statement wait.
    """
    wire, deadline = connection.pgconn, time.monotonic() + FIRST_REPLY
    wire.send_query(statements.encode())
    found, failed = "", None
    while (result := _result_by(connection, deadline)) is not None:
        if result.status not in _DONE:
            failed = failed or error_from_result(result)
        elif result.ntuples:
            found = (result.get_value(0, 0) or b"").decode()
    if failed is not None:
        raise failed
    return found


def _result_by(connection: psycopg.Connection[Any], deadline: float) -> Any:
    wire = connection.pgconn
    while (unsent := wire.flush()) or wire.is_busy():
        wait_for(connection, select.POLLIN | (select.POLLOUT if unsent else 0), deadline, _NO_ANSWER)
        wire.consume_input()
    return wire.get_result()


def wait_for(
    connection: psycopg.Connection[Any],
    events: int,
    deadline: float,
    otherwise: str = "the server was silent for too long",
) -> int:
    """Wait until a server says something, or takes something, and return which; a connection that is silent until then is given up."""
    poll = select.poll()
    poll.register(connection.pgconn.socket, events)
    ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
    if not ready:
        connection.close()
        raise psycopg.OperationalError(otherwise)
    return ready[0][1]


# The write-ahead log names the new timeline at once, ``pg_control_checkpoint`` only after the next checkpoint. Any role may ask.
_ASK: Final = (
    "SELECT CASE WHEN NOT pg_is_in_recovery() THEN (SELECT system_identifier FROM pg_control_system()) || ' ' || "
    "left(pg_walfile_name(pg_current_wal_lsn()), 8) END"
)
_LISTS: Final = ("host", "hostaddr", "port")
"""The parameters of a connection that have a place for each server, or one value for all."""


@attrs.frozen
class ServerTimeline:
    """A timeline of a server and its copies: ``system`` is what they have in common, nothing of a server that does not tell."""

    system: str = ""
    number: int = 0


class NewestTimelines:
    """The timelines that were met. Used by several threads: they only ever add, so that none undoes what another one has noted."""

    def __init__(self) -> None:
        self._met: set[ServerTimeline] = set()

    def note(self, timeline: ServerTimeline) -> None:
        """Note that a server was met."""
        self._met.add(timeline)

    def newest(self, system: str) -> int:
        """Return the newest timeline that was met of a system; 0 where none was."""
        return max((one.number for one in tuple(self._met) if one.system == system), default=0)

    def is_behind(self, timeline: ServerTimeline) -> bool:
        """Say whether a newer timeline than this one was met."""
        return timeline.number < self.newest(timeline.system)

    def say(self, timeline: ServerTimeline) -> str:
        """Say what is wrong with a server that is behind, and what to do."""
        return (
            f"was left behind by a fail-over: its timeline is {timeline.number}, and timeline {self.newest(timeline.system)} was met "
            "already; stop it, or make it a standby of the new primary (if it is the one you want, a restored backup, restart kmsconn)"
        )


MET: Final = NewestTimelines()
"""What this process has met: it holds for all its connections, and for those of a connector that is started anew."""


def connect_to_newest(
    keywords: Mapping[str, Any], met: NewestTimelines = MET
) -> tuple[psycopg.Connection[Any], ServerTimeline]:
    """Make a connection to the first server that was not left behind, and return it with its timeline. Raises OperationalError."""
    refused: list[str] = []
    for one in servers_of(keywords):
        try:
            connection, timeline = _meet(one, met)
        except psycopg.OperationalError as error:
            refused.append(str(error))
            continue
        if not met.is_behind(timeline):
            return connection, timeline
        refused.append(f"the server at {_place_of(connection)}, {met.say(timeline)}")
        connection.close()
    raise psycopg.OperationalError("; ".join(refused))


def look_around(keywords: Mapping[str, Any], met: NewestTimelines = MET) -> str:
    """Meet each server that the parameters of a connection name, where they name several; say which ones were left behind.

    Passes over a server that cannot be reached or is a standby: nobody writes there.
    """
    found: list[tuple[str, ServerTimeline]] = []
    servers = servers_of(keywords)
    for one in servers if len(servers) > 1 else ():
        with suppress(psycopg.Error):
            connection, timeline = _meet(one, met)
            found.append((_place_of(connection), timeline))
            connection.close()
    return "; ".join(f"the server at {where} {met.say(one)}" for where, one in found if met.is_behind(one))


def servers_of(keywords: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters of a connection to each single server that they name."""
    lists = {name: str(keywords[name]).split(",") for name in _LISTS if name in keywords}
    return [
        {**keywords, **{name: values[min(place, len(values) - 1)] for name, values in lists.items()}}
        for place in range(max(map(len, lists.values()), default=1))
    ]


def _place_of(connection: psycopg.Connection[Any]) -> str:
    return f"{connection.info.host}, port {connection.info.port}"


def _meet(
    keywords: Mapping[str, Any], met: NewestTimelines
) -> tuple[psycopg.Connection[Any], ServerTimeline]:
    """Make a connection to a server, and note its timeline. Raises OperationalError."""
    connection = psycopg.connect(autocommit=True, **keywords)
    try:
        timeline = _timeline_of(connection)
    except BaseException:
        connection.close()
        raise
    met.note(timeline)
    return connection, timeline


def _timeline_of(connection: psycopg.Connection[Any]) -> ServerTimeline:
    """Ask a server for its timeline. Raises OperationalError where the connection is lost meanwhile."""
    try:
        told = ask_plainly(connection, _ASK)
    except psycopg.Error:
        if connection.closed:
            raise
        return ServerTimeline()
    system, _, number = told.partition(" ")
    return ServerTimeline(system, int(number, 16)) if number else ServerTimeline()


HELD: Final = 3  # connections that are begun to see who serves them: a busy pooler may hide it from one
_STATEMENT_MODE: Final = "statement pooling mode"
"""In what pgbouncer says to BEGIN where it hands connections out by the statement."""


def mode_of(
    connection: psycopg.Connection[Any], connect: Callable[[], psycopg.Connection[Any]]
) -> PoolerMode:
    """Look how a connection is served, with some further ones where there is a pooler. Raises OperationalError where one has no more."""
    if _served(connection) == connection.pgconn.backend_pid:
        return PoolerMode.NONE
    with ExitStack() as held:

        def hold() -> int:
            other = held.enter_context(closing(connect()))
            ask_plainly(other, "BEGIN")
            return _served(other)

        try:
            shares = serves_by_transaction(partial(_served, connection), hold)
        except psycopg.Error as error:
            if _STATEMENT_MODE not in str(error):
                raise
            shares = True
    return PoolerMode.TRANSACTION if shares else PoolerMode.SESSION


def serves_by_transaction(ask: Callable[[], int], hold: Callable[[], int]) -> bool:
    """Say whether connections share the processes of a server.

    ``ask`` returns which process serves a connection at present, ``hold`` begins a transaction on a further one and returns which serves
    that.
    """
    served = ask()
    return any(hold() == served or ask() != served for _ in range(HELD))


def refuse_transaction_mode(
    where: str, connect: Callable[[], psycopg.Connection[Any]], connection: psycopg.Connection[Any]
) -> None:
    """Raise StartRefused where a pooler in transaction mode stands before a journal's server."""
    if mode_of(connection, connect) is PoolerMode.TRANSACTION:
        raise StartRefused(f"before the server of the journal {where} stands {BREAKS}: {REMEDY}")


def _served(connection: psycopg.Connection[Any]) -> int:
    return int(ask_plainly(connection, "SELECT pg_backend_pid()"))
