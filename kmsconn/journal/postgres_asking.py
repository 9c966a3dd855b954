"""Plain questions to PostgreSQL at the beginning of a connection, before its pipeline: they wait a while, and not for ever."""

from __future__ import annotations

import select
import time
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

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
