"""Which of several servers has the journal of today, and what stands before it: refuses one that a fail-over left behind, and some poolers.

As a standby is promoted it begins a *timeline* with a higher number than its primary's. A primary that comes back after that, and takes
writes, has the journal as it was before: processes on either side would answer the same requests. So a process that has met a timeline
connects to no server of a lower one, and gives connections up that it has there. Only servers that are copies of each other are compared:
they have one system identifier. A server that does not tell, as managed ones may, is taken as it comes. Two standbys that were promoted
both may have timelines of one number: that is not noticed.

In session mode a pooler lets one of the server's processes serve a connection as long as it lasts, and nobody else. In transaction mode a
process serves whoever has a transaction: it is found once another connection is served by the same one, or this one by another. That mode
breaks prepared statements, LISTEN and what is set for a session, and would set it for others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import Any, Final

import psycopg
from psycopg import errors

from kmsconn.config.assembly import password as of_file
from kmsconn.config.assembly import secret_in
from kmsconn.config.description import PostgresAddress
from kmsconn.errors import JournalUnreachable, OutcomeUnknown, StartRefused
from kmsconn.journal.postgres_session import Session, SessionLimits


def keywords_of(address: PostgresAddress) -> dict[str, Any]:
    """Return libpq's parameters of a connection that begins now, the password among them: not to be shown. Blocks.

    Whoever rotates a password changes the server and the file at different times: a file without a password is like a server that refuses
    one. Raises OperationalError then.
    """
    if address.password_file is None:
        return address.keywords()
    try:
        password = secret_in(address.password_file, of_file)
    except ValueError as error:
        raise psycopg.OperationalError(f"no password for the server: {error}") from error
    return {**address.keywords(), "password": password.reveal()}


# The write-ahead log names the new timeline at once, ``pg_control_checkpoint`` only after the next checkpoint. Any role may ask.
_ASK: Final = (
    "SELECT CASE WHEN NOT pg_is_in_recovery() THEN (SELECT system_identifier FROM pg_control_system()) || ' ' || "
    "left(pg_walfile_name(pg_current_wal_lsn()), 8) END"
)
_LISTS: Final = ("host", "hostaddr", "port")
"""The parameters of a connection that have a place for each server, or one value for all."""


Timeline = tuple[str, int]
"""A timeline of a server and its copies: what they have in common, and its number."""

MET: Final[set[Timeline]] = set()
"""What this process has met: it holds for all its connections, and for those of a connector that is started anew.

Several threads only ever add, so that none undoes what another one has noted.
"""


def behind(timeline: Timeline) -> str:
    """Say what is wrong with a server, and what to do, where a newer timeline than its own was met."""
    system, number = timeline
    newest = max((one for of, one in tuple(MET) if of == system), default=number)
    if number >= newest:
        return ""
    return (
        f"was left behind by a fail-over: its timeline is {number}, and timeline {newest} was met already; "
        "stop it, or make it a standby of the new primary (if it is the one you want, a restored backup, restart kmsconn)"
    )


def connect(address: PostgresAddress, limits: SessionLimits, *, looks: bool = False) -> Session:
    """Make a connection to the first server that was not left behind.

    ``looks``: after a look which servers there are, and with one who serves it. Raises OperationalError; StartRefused for a pooler in
    transaction mode.
    """
    keywords = keywords_of(address)
    if looks:
        look_around(address)
    with ExitStack() as unless_done:
        session = _newest(keywords, limits)
        unless_done.callback(session.close)
        if looks and is_shared(session, keywords):
            raise StartRefused(f"before the server of the journal {address} stands {BREAKS}: {REMEDY}")
        session.set_up()
        unless_done.pop_all()
    return session


def _newest(keywords: Mapping[str, Any], limits: SessionLimits) -> Session:
    refused: list[str] = []
    for one in servers_of(keywords):
        try:
            session = _meet(one, limits)
        except psycopg.OperationalError as error:
            refused.append(str(error))
            continue
        if not (said := session.behind()):
            return session
        refused.append(f"the server at {_place_of(session)}, {said}")
        session.close()
    raise psycopg.OperationalError("; ".join(refused))


def look_around(address: PostgresAddress, **keywords: Any) -> str:
    """Meet each server that an address names, where it names several; say which ones were left behind.

    Passes over a server that cannot be reached or is a standby: nobody writes there.
    """
    found: list[Session] = []
    servers = servers_of({**keywords_of(address), **keywords})
    with ExitStack() as held:
        for one in servers if len(servers) > 1 else ():
            with suppress(psycopg.Error):
                found.append(held.enter_context(closing(_meet(one, SessionLimits()))))
        return "; ".join(f"the server at {_place_of(one)} {said}" for one in found if (said := one.behind()))


def _place_of(session: Session) -> str:
    return f"{session.wire.host.decode()}, port {session.wire.port.decode()}"


def servers_of(keywords: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters of a connection to each single server that they name."""
    lists = {name: str(keywords[name]).split(",") for name in _LISTS if name in keywords}
    return [
        {**keywords, **{name: values[min(place, len(values) - 1)] for name, values in lists.items()}}
        for place in range(max(map(len, lists.values()), default=1))
    ]


def _meet(keywords: Mapping[str, Any], limits: SessionLimits) -> Session:
    """Make a connection to a server, and note its timeline. Raises OperationalError where it is lost meanwhile."""
    session = Session(keywords, limits)
    try:
        system, _, number = (session.ask(_ASK) or "").partition(" ")
    except psycopg.Error:
        if session.is_lost:
            raise
        return session
    if number:
        timeline = system, int(number, 16)
        MET.add(timeline)
        session.behind = partial(behind, timeline)
    return session


HELD: Final = 3  # connections that are begun to see who serves them: a busy pooler may hide it from one
_STATEMENT_MODE: Final = "statement pooling mode"
"""In what pgbouncer says to BEGIN where it hands connections out by the statement."""
BREAKS: Final = (
    "a pooler in transaction mode, which breaks prepared statements, LISTEN and what is set for a session"
)
REMEDY: Final = (
    "connect to the server itself, or set pool_mode = session for this database and user in the pooler"
)
_SERVED: Final = "SELECT pg_backend_pid()"


def is_pooled(session: Session) -> bool:
    """Say whether a pooler serves a connection: it makes up the number of the process that it tells as one begins."""
    return bool(session.ask(_SERVED) != session.wire.backend_pid)


def is_shared(session: Session, keywords: Mapping[str, Any]) -> bool:
    """Look with some further connections whether a pooler hands them out by the transaction or by the statement.

    Raises OperationalError where it has no more.
    """
    if not is_pooled(session):
        return False
    with ExitStack() as held:

        def hold() -> int:
            other = held.enter_context(closing(Session(keywords, SessionLimits())))
            other.ask("BEGIN")
            return int(other.ask(_SERVED))

        try:
            return serves_by_transaction(lambda: int(session.ask(_SERVED)), hold)
        except psycopg.Error as error:
            if _STATEMENT_MODE in str(error):
                return True
            raise


def serves_by_transaction(ask: Callable[[], int], hold: Callable[[], int]) -> bool:
    """Say whether connections share processes of a server: one is asked which serves it, further ones once they hold a transaction."""
    served = ask()
    return any(hold() == served or ask() != served for _ in range(HELD))


# What a server, or libpq, says to a connection that it does not make has no code of PostgreSQL's; a server may have its words in another
# language (``lc_messages``). Each with whether somebody must mend it, and how: what does not last passes by itself.
_REMEDIES: Final = (
    (
        "password authentication failed|no password supplied",
        True,
        "write the user's password into journal_password_file, or change it in the server: ALTER ROLE … PASSWORD '…'",
    ),
    (
        "does not match host name",
        True,
        "name the server in journal as its certificate does, or give it a certificate for this name",
    ),
    (
        "certificate verify|root certificate file|certificate authentication failed",
        True,
        "let ?sslrootcert=FILE in journal have the authority that has signed the server's certificate; providers publish theirs",
    ),
    (
        "valid client certificate|certificate file|private key file|certificate required|bad certificate|unknown ca",
        True,
        "let ?sslcert=FILE&sslkey=FILE in journal name a certificate that the server accepts, and its key of mode 0600",
    ),
    (
        "SSL was required|SSL error",
        True,
        "turn ssl on at the server, or take ?sslmode= out of journal where nobody else can hear the network",
    ),
    (
        "pg_hba.conf",
        True,
        "allow this machine, user and database in the server's pg_hba.conf (allowed networks at a provider; some require ?sslmode=require)",
    ),
    (
        "does not exist|is not permitted to log in|permission denied",
        True,
        "make the user and the database: CREATE ROLE … LOGIN, CREATE DATABASE … OWNER …, or correct journal",
    ),
    (
        "too many connections|remaining connection slots|too many clients",
        False,
        "raise CONNECTION LIMIT of the user and the database, or max_connections; or set a smaller database_pool_size",
    ),
    (
        "read-only",
        False,
        "name all servers in journal with ?target_session_attrs=read-write; some providers let a full disk be read only",
    ),
    (
        "no password for the server",
        False,
        "let journal_password_file name a file with the password in one line",
    ),
    (
        "invalid connection option|invalid sslmode value|unsupported startup parameter",
        True,
        "correct journal",
    ),
)


def remedy_of(words: str) -> tuple[bool, str]:
    """Say whether somebody must mend what a refusal tells, and what to do; nothing where the words are not known."""
    return next(((lasts, remedy) for said, lasts, remedy in _REMEDIES if re.search(said, words)), (False, ""))


def refusal_of(where: str, error: Exception) -> StartRefused:
    """Say why a journal cannot be opened, in the server's words, and what to do.

    It may pass by itself where the server is away, starts, is full, or is a standby at present.
    """
    said = " ".join(str(error).split())
    must_mend, remedy = remedy_of(said)
    may_pass = isinstance(error, (errors.ReadOnlySqlTransaction, OutcomeUnknown)) or (
        isinstance(error, psycopg.OperationalError) and not (must_mend and error.sqlstate is None)
    )
    kind = JournalUnreachable if may_pass else StartRefused
    return kind(f"the journal {where} cannot be opened: {': '.join(filter(None, (said, remedy)))}")
