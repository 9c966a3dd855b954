"""What a server, or libpq, says to a connection that it does not make, and how a pooler hands connections out: what to do about it. Pure.

Such words have no code of PostgreSQL's. A server has them in its own language (``lc_messages``); libpq's are English here. Needs no
package of PostgreSQL: doctor says these words in an installation without them, too.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

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


def is_lasting(words: str) -> bool:
    """Say whether somebody must mend it: it does not pass by itself."""
    return _found(words)[0]


def remedy_of(words: str) -> str:
    """Say what to do; nothing where the words are not known."""
    return _found(words)[1]


def _found(words: str) -> tuple[bool, str]:
    for pattern, lasts, remedy in _REMEDIES:
        if re.search(pattern, words):
            return lasts, remedy
    return False, ""


BREAKS: Final = (
    "a pooler in transaction mode, which breaks prepared statements, LISTEN and what is set for a session"
)
REMEDY: Final = (
    "connect to the server itself, or set pool_mode = session for this database and user in the pooler"
)


class PoolerMode(StrEnum):
    """How a pooler hands out the server's connections; by the transaction includes by the statement."""

    NONE = "no pooler"
    SESSION = "session"
    TRANSACTION = "transaction"
