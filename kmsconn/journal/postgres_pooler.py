"""Finds a pooler between this process and the server, and how it hands out the server's connections.

A pooler makes up the number of the server's process that it tells as a connection begins, so a number that is not that of the process
which answers shows one. In session mode one process serves a connection as long as it lasts, and nobody else. In transaction mode a process
serves whoever has a transaction: it is found once another connection is served by the same one, or this one by another. That mode breaks
prepared statements, LISTEN and what is set for a session, and would set it for others.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, Final

import psycopg

from kmsconn.errors import StartRefused
from kmsconn.journal.pooler_modes import BREAKS, REMEDY, PoolerMode
from kmsconn.journal.postgres_asking import ask_plainly

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
