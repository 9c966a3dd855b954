"""The parameters of a connection to PostgreSQL, with a password that a file has at present. Opens no connection, shows no password."""

from __future__ import annotations

from typing import Any

from psycopg import OperationalError

from kmsconn.config.keyfiles import password_in
from kmsconn.config.values import PostgresAddress


def keywords_of(address: PostgresAddress) -> dict[str, Any]:
    """Return libpq's parameters of a connection that begins now, the password among them: not to be shown. Blocks.

    Whoever rotates a password changes the server and the file at different times: a file without a password is like a server that refuses
    one. Raises OperationalError then.
    """
    if address.password_file is None:
        return address.keywords()
    try:
        password = password_in(address.password_file)
    except ValueError as error:
        raise OperationalError(f"no password for the server: {error}") from error
    return {**address.keywords(), "password": password.reveal()}
