"""The forms of places as option values: addresses of contracts, URLs, sockets, journals, files. Pure, but that a file must be there.

Every function takes a value as TOML or the environment gave it and raises ValueError with a text that may be shown: a URL is never quoted.
The URL of a database of PostgreSQL is read as libpq and the sqlx of the three services do; PostgreSQL's manual, 34.1.1.2 (connection URIs)
and 34.1.2 (parameters).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import unquote, urlsplit

from kmsconn.config.description import Form, PostgresAddress, Secret
from kmsconn.config.forms import name, quoted, suggestion, text
from kmsconn.ethereum.addresses import Address, checksum, parse_address
from kmsconn.transport.urls import show_origin

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
    "ssl-mode": "sslmode", "ssl-root-cert": "sslrootcert", "ssl-ca": "sslrootcert", "ssl-cert": "sslcert", "ssl-key": "sslkey",
    "application-name": "application_name",
}  # fmt: skip
"""Spellings of sqlx, the driver of the three services."""
_WITHOUT_EFFECT: Final = frozenset({"statement-cache-capacity"})


def is_postgres_url(text: str) -> bool:
    """Say whether a text is meant as the URL of a database of PostgreSQL."""
    return text.startswith(("postgres://", "postgresql://"))


def parse_postgres_url(url: str) -> PostgresAddress:
    """Take a URL apart. Raises ValueError that names the faulty part, and quotes none."""
    found = _URL.fullmatch(url)
    if found is None or not url.isprintable() or " " in url:
        form = "postgresql://USER@HOST:PORT/DATABASE"
        raise ValueError(f"is no URL of a PostgreSQL database, {form} ({_ESCAPES})")
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
    secret = None if password is None else Secret(password)
    parameters = {name: value for name, value in given.items() if name in PARAMETERS}
    return PostgresAddress(given["dbname"], hosts, ports, given.get("user", ""), secret, parameters)


def _decoded(text: str) -> str:
    if re.search(r"%(?![0-9a-fA-F]{2})", text):
        remedy = "write %25 for the character itself"
        raise ValueError(f"has a % that is not followed by two hex digits ({remedy})")
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


SQLITE: Final = "sqlite:///"
_NEXT_URL = re.compile(r"\s*,\s*(?=[a-zA-Z][a-zA-Z0-9+.-]*://)")


def contract_address(value: object) -> Address:
    """Read an address; mixed case must be a right EIP-55 checksum."""
    written = text(value).strip()
    if not re.fullmatch(r"0[xX][0-9a-fA-F]{40}", written):
        raise ValueError(f"must be an address, 0x and 40 hex digits, not {quoted(value)}")
    return parse_address(written)


def _check_url(url: str, schemes: tuple[str, ...]) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        raise ValueError("is not a URL: its host or port is malformed") from None
    if parts.scheme not in schemes:
        known = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"must be a URL that starts with {known}")
    if not parts.hostname or not url.isprintable() or " " in url:
        raise ValueError("is not a URL: it has no host, or it contains a blank")
    return url


def _split(value: object) -> list[str]:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        found = [one.strip() for one in value]
    else:
        found = [one.strip() for one in _NEXT_URL.split(text(value).strip().rstrip(","))]
    if not found or not all(found):
        raise ValueError("is empty")
    return found


def _urls(schemes: tuple[str, ...], value: object) -> tuple[str, ...]:
    return tuple(_check_url(url, schemes) for url in _split(value))


rpc_urls = partial(_urls, ("http", "https", "ws", "wss"))
websocket_urls = partial(_urls, ("ws", "wss"))
"""Read URLs of a chain: one, a comma list, or a list."""


MOST_CORES: Final = 42
"""Shards of a Core: the journal keeps of each id a remainder that tells the shard of any number up to this one."""


def core_endpoints(value: object) -> tuple[str, ...]:
    """Read the endpoints of the Core: ``http://host:port``, one, a comma list, or a list."""
    found = _urls(("http", "https"), value)
    if len(found) > MOST_CORES:
        raise ValueError(f"must be at most {MOST_CORES} endpoints, not {len(found)}")
    for url in found:
        parts = urlsplit(url)
        if parts.port is None or parts.path.strip("/") or parts.query or parts.username is not None:
            raise ValueError("must be http://host:port and nothing else")
    return tuple(url.rstrip("/") for url in found)


def http_url(value: object) -> str:
    """Read one URL of an HTTP service."""
    return _check_url(name(value), ("http", "https"))


def socket_address(value: object) -> str:
    """Read ``host:port`` (``[::]:9100`` for IPv6); port 0 takes a free one."""
    host, _, port = text(value).strip().rpartition(":")
    fits = port.isascii() and port.isdigit() and int(port) < 2**16
    if not fits or not host or "/" in host or (":" in host and not (host[0] == "[" and host[-1] == "]")):
        raise ValueError(f'must be host:port such as "0.0.0.0:9100", not {quoted(value)}')
    return f"{host}:{int(port)}"


def journal_address(value: object) -> Path | PostgresAddress:
    """Read ``sqlite:///PATH``, where a fourth slash begins an absolute path, or ``postgresql://USER@HOST:PORT/DATABASE``."""
    written = text(value).strip()
    if is_postgres_url(written):
        return parse_postgres_url(written)
    path = written.removeprefix(SQLITE)
    if not written.startswith(SQLITE) or not path:
        file = f"{SQLITE}PATH (an absolute path: {SQLITE}/PATH)"
        raise ValueError(f"must be {file} or postgresql://USER@HOST:PORT/DATABASE")
    return Path(path)


def file_path(value: object) -> Path:
    """Read a path of a file."""
    return Path(name(value))


def existing_file(value: object) -> Path:
    """Read a path of a file that is there."""
    path = file_path(value)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


def is_loopback(host: str) -> bool:
    """Say whether a host, as it stands in an address or a URL, is this machine's loopback."""
    bare = host.strip("[]").lower()
    try:
        return bare == "localhost" or ip_address(bare).is_loopback
    except ValueError:
        return False


def _origins(urls: tuple[str, ...]) -> str:
    return ", ".join(show_origin(url) for url in urls)


def _journal_text(journal: Path | PostgresAddress) -> str:
    return str(journal) if isinstance(journal, PostgresAddress) else f"{SQLITE}{journal}"


def contract_form(contract: str) -> Form:
    """Return the form of the address of a contract as the first generation had it: with 0x, in any case of letters."""
    return Form(partial(_loose_address, contract), "address", checksum)


def _loose_address(contract: str, value: object) -> Address:
    written = text(value).strip()
    if not written.startswith("0x"):
        raise ValueError(f"the address of {contract} must start with 0x")
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", written):
        raise ValueError(f"is no address of {contract}: 0x and 40 hex digits, not {quoted(value)}")
    return Address(bytes.fromhex(written[2:]))


ContractAddress = Annotated[Address, Form(contract_address, "address", checksum)]
RpcUrls = Annotated[tuple[str, ...], Form(rpc_urls, "URLs", _origins)]
WebsocketUrls = Annotated[tuple[str, ...], Form(websocket_urls, "URLs", _origins)]
CoreEndpoints = Annotated[tuple[str, ...], Form(core_endpoints, "URLs", _origins)]
HttpUrl = Annotated[str, Form(http_url, "URL", show_origin)]
SocketAddress = Annotated[str, Form(socket_address, "host:port")]
JournalUrl = Annotated[Path | PostgresAddress, Form(journal_address, "URL", _journal_text, SQLITE)]
FilePath = Annotated[Path, Form(file_path, "path", path="")]
ExistingFile = Annotated[Path, Form(existing_file, "path", path="")]


# --- the database of the three services of 0.14


def of_three_services(url: Any) -> str:
    """Say what becomes of the database of the three services: its tables are theirs, and nothing of it needs to be taken over."""
    if not is_postgres_url(str(url).strip()):
        return ""
    return (
        "kmsconn makes tables of its own in the schema kmsconn of that database and does not read those of the three services: what they "
        "have not answered is read from the chain (decryption_from_block_number)"
    )


def in_own_schema(url: Any) -> Any:
    """Let the tables stand in a schema of their own, beside those of the three services, unless the URL names one."""
    if not is_postgres_url(str(url).strip()) or "options=" in str(url):
        return url
    return f"{str(url).strip()}{'&' if '?' in str(url) else '?'}options=-csearch_path%3Dkmsconn"
