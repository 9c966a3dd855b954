"""The URL of a database of PostgreSQL, as libpq and the sqlx of the three services read it. Pure; no text of it shows the URL.

Source: PostgreSQL's manual, 34.1.1.2 (connection URIs) and 34.1.2 (parameters).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

from kmsconn.config.forms import suggestion
from kmsconn.config.values import PostgresAddress, Secret

_URL = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^@/?#]*)@)?(?P<servers>[^/?#]*)(?:/(?P<database>[^?#/@]*))?(?:\?(?P<query>[^#]*))?"
)
_SERVER = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+(?:%25[^\]]+)?)\]|(?P<host>[^\[\]:@]*))(?::(?P<port>\d*))?")

_ESCAPES: Final = (
    "in a user name or password @ : / ? # % and blanks are written as %40 %3A %2F %3F %23 %25 %20"
)

SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_OWN_FIELDS: Final = ("host", "port", "dbname", "user", "password")
PARAMETERS: Final = frozenset(
    "hostaddr passfile require_auth channel_binding connect_timeout client_encoding options application_name "
    "fallback_application_name keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout gssencmode sslmode "
    "sslnegotiation sslcompression sslcert sslkey sslcertmode sslrootcert sslcrl sslcrldir sslsni requirepeer "
    "ssl_min_protocol_version ssl_max_protocol_version krbsrvname gsslib gssdelegation service target_session_attrs "
    "load_balance_hosts".split()
)
"""The parameters of libpq, without those that become fields, and without replication."""

_SQLX: Final = {
    "ssl-mode": "sslmode",
    "ssl-root-cert": "sslrootcert",
    "ssl-ca": "sslrootcert",
    "ssl-cert": "sslcert",
    "ssl-key": "sslkey",
    "application-name": "application_name",
}
"""Spellings of sqlx, the driver of the three services."""
_WITHOUT_EFFECT: Final = frozenset({"statement-cache-capacity"})


def is_postgres_url(text: str) -> bool:
    """Say whether a text is meant as the URL of a database of PostgreSQL."""
    return text.startswith(("postgres://", "postgresql://"))


def parse_postgres_url(url: str) -> PostgresAddress:
    """Take a URL apart. Raises ValueError that names the faulty part, and quotes none."""
    found = _URL.fullmatch(url)
    if found is None or not url.isprintable() or " " in url:
        raise ValueError(
            f"is no URL of a PostgreSQL database, postgresql://USER@HOST:PORT/DATABASE ({_ESCAPES})"
        )
    user, colon, password = (found["user"] or "").partition(":")
    given = {"user": user, "password": password if colon else "", "dbname": found["database"] or ""}
    given = {name: _decoded(value) for name, value in given.items() if value}
    given |= _servers(found["servers"])
    given |= dict(_query(found["query"] or ""))
    return _address(given)


def _address(given: dict[str, str]) -> PostgresAddress:
    if not given.get("dbname"):
        raise ValueError("names no database: postgresql://USER@HOST:PORT/DATABASE")
    hosts = tuple(host for host in given.get("host", "").split(",") if host)
    ports = _ports(given.get("port", ""))
    if len(ports) > 1 and len(ports) != len(hosts):
        raise ValueError(f"names {len(hosts)} hosts and {len(ports)} ports")
    if (mode := given.get("sslmode")) is not None and mode not in SSL_MODES:
        raise ValueError(f"its sslmode must be one of {', '.join(SSL_MODES)}")
    password = given.get("password")
    return PostgresAddress(
        given["dbname"],
        hosts,
        ports,
        given.get("user", ""),
        None if password is None else Secret(password),
        {name: value for name, value in given.items() if name in PARAMETERS},
    )


def _decoded(text: str) -> str:
    if re.search(r"%(?![0-9a-fA-F]{2})", text):
        raise ValueError(
            "has a % that is not followed by two hex digits (write %25 for the character itself)"
        )
    decoded = unquote(text)
    if "\0" in decoded:
        raise ValueError("has a zero byte")
    return decoded


def _servers(written: str) -> dict[str, str]:
    """Return hosts and ports of a comma list, as libpq's parameters have them; nothing where there is none."""
    if not written:
        return {}
    found = [_SERVER.fullmatch(server) for server in written.split(",")]
    servers = [server for server in found if server is not None]
    if len(servers) < len(found):
        raise ValueError(f"its host or port is malformed ({_ESCAPES})")
    hosts = [_decoded(server["six"] or server["host"] or "") for server in servers]
    if any(server["port"] for server in servers):
        return {"host": ",".join(hosts), "port": ",".join(server["port"] or "5432" for server in servers)}
    return {"host": ",".join(hosts)} if any(hosts) else {}


def _ports(written: str) -> tuple[int, ...]:
    ports = written.split(",") if written else []
    if not all(port.isascii() and port.isdigit() and 0 < int(port) < 2**16 for port in ports):
        raise ValueError("its port must be a number from 1 to 65535")
    numbers = tuple(int(port) for port in ports)
    return numbers[:1] if len(set(numbers)) == 1 else numbers


def _query(written: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, written.split("&")):
        name, equals, value = part.partition("=")
        name = _SQLX.get(_decoded(name), _decoded(name))
        if name in _WITHOUT_EFFECT:
            continue
        if name not in PARAMETERS and name not in _OWN_FIELDS:
            hint = suggestion(name, sorted(PARAMETERS))
            raise ValueError(f"has a parameter that PostgreSQL's libpq does not know{hint and f'; {hint}'}")
        if not equals:
            raise ValueError(f"its parameter {name} has no value")
        yield name, _decoded(value)
