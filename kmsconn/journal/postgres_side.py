"""Connections to a PostgreSQL journal beside the one that writes: questions of their own transactions, and what other processes tell.

Never waits for the writers' lock, so that a slow commit holds up neither renewals nor claims.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from typing import Any, Final, Never, TypeVar

import psycopg
import trio

from kmsconn.config.description import PostgresAddress
from kmsconn.errors import JournalFailed
from kmsconn.journal.postgres import Batch
from kmsconn.journal.postgres_servers import connect, look_around
from kmsconn.journal.postgres_session import Session, SessionLimits
from kmsconn.transport.ports import Offload

T = TypeVar("T")

RECONNECT: Final = 0.5  # seconds until a connection that only listens is made anew
LOOK_AROUND: Final = 5.0  # seconds between looks which servers there are
BRIEF: Final = 2  # seconds for a connection, libpq's least: the end of the process may wait for a look
BREATH: Final = 0.005  # seconds between two batches of what was told: what comes together is taken together


class SideSession:
    """A connection that answers one question at a time, and is made anew after a failure. ``use`` names its thread."""

    def __init__(self, address: PostgresAddress, use: str, offload: Offload, limits: SessionLimits) -> None:
        self._batch = Batch(partial(connect, address, limits))
        self._use = use
        self._offload = offload
        self._turn = trio.Lock()
        self.close = self._batch.close

    async def ask(self, question: Callable[[Batch], T]) -> T:
        """Ask one question. Raises JournalFailed where the database fails.

        Cancellation: while others have their turn; a question that was asked is answered first. Repeating: the question's matter.
        """
        async with self._turn:
            return await self._offload(self._use, lambda: self._asked(question))

    def _asked(self, question: Callable[[Batch], T]) -> T:
        try:
            self._batch.connect()
            return question(self._batch)
        except psycopg.Error as error:  # whatever was begun ends with the connection
            self._batch.close()
            said = " ".join(str(error).split())
            raise JournalFailed(f"the database of the journal fails: {said}") from error


async def listen(
    address: PostgresAddress,
    use: str,
    offload: Offload,
    take: Callable[[frozenset[str]], Any],
    ours: Callable[[], int],
) -> Never:
    """Give ``take`` what other processes tell, for ever, several words at once; nothing at all after each connection.

    What comes from ``ours``, the server's process for this one's journal, is left out.

    ``take`` is awaited; what is told meanwhile comes together. Cancellation: at any time. Repeating: what was told without a listener is
    lost, so that whoever acts on it looks by itself now and then.
    """
    while True:
        with suppress(psycopg.Error), closing(await offload(use, lambda: _listening(address))) as session:
            await take(frozenset())
            while not session.is_lost:
                with trio.move_on_after(LOOK_AROUND):
                    await trio.lowlevel.wait_readable(session.wire.socket)
                session.wire.consume_input()
                notices = iter(session.wire.notifies, None)
                if told := frozenset(one.extra.decode() for one in notices if one.be_pid != ours()):
                    await take(told)
                    await trio.sleep(BREATH)
        await trio.sleep(RECONNECT)


def _listening(address: PostgresAddress) -> Session:
    session = connect(address, SessionLimits())
    try:
        session.ask("LISTEN kmsconn")
    except psycopg.Error:  # a standby takes no such word
        session.close()
        raise
    return session


async def watch_servers(
    address: PostgresAddress, use: str, offload: Offload, tell: Callable[[str], object]
) -> Never:
    """Look around for servers of a newer timeline, for ever, and tell which ones were left behind; nothing while none is.

    A look that fails tells nothing: what was told before stands, since nobody has seen that it is over.
    Cancellation: between looks. Repeating: a server that was met is known.
    """
    while True:
        await trio.sleep(LOOK_AROUND)
        with suppress(psycopg.Error):
            tell(await offload(use, partial(look_around, address, connect_timeout=BRIEF)))
