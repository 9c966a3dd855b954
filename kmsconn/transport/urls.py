"""URLs, taken apart and shown, and which addresses belong to the public internet. Never shows user info or query: both may hold keys.

No I/O, no Trio, and no opinion of the Python version: the standard library's ``is_global`` changes between versions: on 3.11 6to4 and
multicast addresses are global, on later ones not. So the registries are spelt out here, and what is not known to be public is private.
Source: the IANA special-purpose address registries (RFC 6890) and the IPv6 address space, where 2000::/3 alone is global unicast.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from functools import lru_cache
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

import attrs

from kmsconn.frozen import frozen

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "grpc": 80, "grpcs": 443}
REMEMBERED_URLS = 1024  # URLs: every step of a request takes its address apart anew
TLS_SCHEMES = frozenset({"https", "wss", "grpcs"})

_BEFORE_PATH = re.compile(r"[^/?#]*//[^/?#]*")  # as urlsplit reads it
_STAYS_IN_TARGET = "!$&'()*+,;=:@/?[]~%"  # RFC 3986, 3.3 and 3.4, and what is percent-encoded already
_IS_TARGET = re.compile(rf"[-.\w{re.escape(_STAYS_IN_TARGET)}]*", re.ASCII).fullmatch

# ASCII names, IPv4 and IPv6 addresses; anything else is read differently by different parsers.
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


_URL = re.compile(
    r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>)}]*[^\s'\"<>)}:.,;]"
)  # without the sentence's punctuation


# Of PostgreSQL: several servers or none, and a database; libpq takes user and password from the query too.
_SERVER = r"(?:\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9._-]*)(?::\d+)?"
_DATABASE = re.compile(
    rf"postgres(?:ql)?://(?:[^@/?#]*@)?(?P<shown>{_SERVER}(?:,{_SERVER})*(?:/[^@/?#]*)?)(?:[?#][^@]*)?"
)


@frozen
class Url:
    """A URL with a host. ``host`` has no brackets; ``path`` begins with a slash; the secret parts stay out of ``repr``."""

    scheme: str
    host: str
    port: int
    path: str
    query: str = attrs.field(repr=False)
    target: str = attrs.field(eq=False, repr=False)
    """Path and query as a request has them: what must not stand there is percent-encoded. May hold a key: never show it."""
    user_info: str = attrs.field(repr=False)
    authority: str = attrs.field(eq=False, repr=False)
    """Host and port as a ``Host`` header has them: the scheme's own port is left out (RFC 9110, 7.2)."""
    origin: str = attrs.field(eq=False, repr=False)
    """Scheme, host and port: enough to say which dependency, and nothing secret, as paths of RPC providers are."""

    tls: bool = attrs.field(eq=False, repr=False)
    """Whether the scheme asks for TLS."""
    authorization: str | None = attrs.field(eq=False, repr=False)
    """The ``Authorization`` header that the user info asks for (RFC 7617)."""


@lru_cache(REMEMBERED_URLS)
def parse(url: str) -> Url:
    """Take a URL apart. Raises ValueError that says what is wrong without repeating the URL."""
    if " " in url or "\\" in url or not url.isprintable():
        raise ValueError("the URL holds white space, a backslash or control characters")
    found = _BEFORE_PATH.match(url)
    before = found[0] if found else url  # which is no server then
    server = _server(before)
    path, _, query = url[len(before) :].partition("#")[0].partition("?")
    path = path or "/"
    target = f"{path}?{query}" if query else path
    target = target if _IS_TARGET(target) else quote(target, safe=_STAYS_IN_TARGET)
    rest = server.user_info, server.authority, server.origin, server.tls, server.authorization
    return Url(server.scheme, server.host, server.port, path, query, target, *rest)


@lru_cache(REMEMBERED_URLS)
def _server(url: str) -> Url:
    """Take apart what stands before a path: the addresses of many objects have it in common."""
    parts, host, port = _split(url)
    scheme = parts.scheme.lower()
    if scheme not in DEFAULT_PORTS:
        raise ValueError(f"not a URL with one of the schemes {', '.join(sorted(DEFAULT_PORTS))}")
    if not _HOST.fullmatch(host):
        raise ValueError("the URL names no host, or none that is a plain name or address")
    user_info = parts.netloc.rpartition("@")[0]
    port = DEFAULT_PORTS[scheme] if port is None else port
    authority = f"[{host}]" if ":" in host else host
    authority += "" if port == DEFAULT_PORTS[scheme] else f":{port}"
    origin = f"{scheme}://{authority}"
    basic = f"Basic {base64.b64encode(unquote(user_info).encode()).decode()}" if user_info else None
    return Url(scheme, host, port, "/", "", "/", user_info, authority, origin, scheme in TLS_SCHEMES, basic)


def _split(url: str) -> tuple[SplitResult, str, int | None]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port  # computed when read; the port raises where it is none
    except ValueError:
        raise ValueError("the URL has a malformed host or port") from None
    return parts, host or "", port


def without_user_info(url: str) -> str:
    """Return a URL without user name, password and fragment. Raises ValueError for what is none."""
    parsed = parse(url)
    return parsed.origin + parsed.target


def show(url: str) -> str:
    """Return the URL without user info, query and fragment, fit for a log; something for every text, and never an exception."""
    if (database := _DATABASE.fullmatch(url)) is not None:
        return f"postgresql://{database['shown']}"
    try:
        parsed = parse(url)
    except ValueError:
        return "<malformed URL>"
    return parsed.origin + (parsed.path if parsed.path != "/" else "")


def show_origin(url: str) -> str:
    """Return scheme, host and port only: paths of RPC providers are keys too."""
    try:
        return parse(url).origin
    except ValueError:
        return "<malformed URL>"


def hide_urls(text: str) -> str:
    """Cut user info and query from every URL in a text."""
    return _URL.sub(lambda found: show(found[0]), text) if "://" in text else text


REMEMBERED_ADDRESSES: Final = 256

_V4: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",
            "100.64.0.0/10",  # carriers' address translators
            "127.0.0.0/8",
            "168.63.129.16/32",  # the metadata service of a cloud (Azure), though the address is a public one
            "169.254.0.0/16",  # link-local, and the metadata services of clouds
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation, as the two below
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
_V6_GLOBAL: Final = ipaddress.IPv6Network("2000::/3")
_V6: Final = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocol assignments, Teredo among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: an IPv4 address in disguise
            "3fff::/20",  # documentation
        ),
    )
)
_PRIVATE_SUFFIXES: Final = ("localhost", "local", "internal", "localdomain", "home.arpa")
_ENDS_IN_A_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.IGNORECASE)


def is_public_address(text: str) -> bool:
    """Say whether a literal address is one of the public internet; False for what is no address."""
    try:
        literal = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(literal, ipaddress.IPv4Address):
        return not any(literal in network for network in _V4)
    # NAT64 (64:ff9b::/96), mapped and compatible IPv4 addresses, site-local, unique local and multicast ones lie outside of 2000::/3
    return (
        literal.scope_id is None and literal in _V6_GLOBAL and not any(literal in network for network in _V6)
    )


@lru_cache(REMEMBERED_ADDRESSES)
def is_private_host(host: str) -> bool:
    """Say whether a host, by its text alone, is an address that is not public or a name that nobody outside resolves.

    What resolvers read as an address though it is written otherwise (``127.1``, ``0x7f.1``, ``2130706433``) is private: a name never
    ends in a number (WHATWG URL, 5.4).
    """
    bare = host.rstrip(".").lower()
    if ":" in bare or _ENDS_IN_A_NUMBER.fullmatch(bare):
        return not is_public_address(bare)
    return "." not in bare or any(bare.endswith(f".{suffix}") for suffix in _PRIVATE_SUFFIXES)
