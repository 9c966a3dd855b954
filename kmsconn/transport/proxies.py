"""Which proxy counts for which host, as the usual environment variables say. No I/O, no Trio; reads no environment by itself.

``HTTPS_PROXY`` counts for https and wss, ``HTTP_PROXY`` for http and ws, ``ALL_PROXY`` for both where they are not set; in lower case
they win over upper case, and an empty one means none. What ``NO_PROXY`` names, and the loopback, is reached straight: a proxy's
loopback is another machine. User name and password of a proxy are sent to it and shown nowhere.

Source: the conventions of curl and of Go's ``httpproxy``; there is no standard.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import attrs

from kmsconn.transport.urls import Url, parse


@attrs.frozen
class Proxy:
    """An HTTP proxy; spoken to over TLS where its URL says ``https``."""

    url: Url

    @property
    def shown(self) -> str:
        """Scheme, host and port, without user name and password."""
        return self.url.origin

    @property
    def headers(self) -> dict[str, str]:
        """What a request to the proxy has beside its own headers (RFC 9110, 11.7.2). Secret."""
        authorization = self.url.authorization
        return {"Proxy-Authorization": authorization} if authorization else {}

    @property
    def address(self) -> str:
        """The whole URL, as other libraries take it. Secret."""
        user_info = f"{self.url.user_info}@" if self.url.user_info else ""
        return f"{self.url.scheme}://{user_info}{self.url.authority}"


Exemption = Callable[[str, int], bool]


@attrs.frozen
class Proxies:
    """The proxies for plain and for TLS connections, and which hosts go without."""

    plain: Proxy | None = None
    tls: Proxy | None = None
    no_proxy: str = ""
    _exempt: tuple[Exemption, ...] = attrs.field(factory=tuple, repr=False, eq=False)

    def of(self, host: str, port: int, *, tls: bool) -> Proxy | None:
        """Return the proxy for a connection to a host, or None where it is reached straight."""
        proxy = self.tls if tls else self.plain
        bare = host.lower().rstrip(".")
        if proxy is None or _is_loopback(bare) or any(exempt(bare, port) for exempt in self._exempt):
            return None
        return proxy

    @property
    def shown(self) -> str:
        """How a log has them; empty where there are none."""
        named = (("http", self.plain), ("https", self.tls))
        parts = [f"{scheme} through {proxy.shown}" for scheme, proxy in named if proxy]
        return ", ".join([*parts, *([f"except {self.no_proxy}"] if parts and self.no_proxy else [])])


NO_PROXIES: Final = Proxies()


class ProxyFault(ValueError):  # noqa: N818 - a fault of a configuration, as the others are called
    """A variable names no proxy that can be used; ``variable`` is its name as it was written. Holds no value."""

    def __init__(self, variable: str, reason: str) -> None:
        super().__init__(reason)
        self.variable = variable


def proxies_of(environ: Mapping[str, str]) -> Proxies:
    """Return what an environment says. Raises ProxyFault."""
    both = _proxy(environ, "all_proxy", None)
    plain, tls = _proxy(environ, "http_proxy", both), _proxy(environ, "https_proxy", both)
    names = _variable(environ, "no_proxy")[1].replace(",", " ").split()
    return Proxies(plain, tls, ",".join(names), tuple(map(_exemption, names)))


def _proxy(environ: Mapping[str, str], name: str, unless_set: Proxy | None) -> Proxy | None:
    written, text = _variable(environ, name)
    if not text:
        return None if written in environ else unless_set
    try:
        url = parse(text if "://" in text else f"http://{text}")
    except ValueError as error:
        raise ProxyFault(written, f"is not the URL of a proxy: {error}") from None
    if url.scheme not in {"http", "https"}:
        raise ProxyFault(written, f"names a proxy with the scheme {url.scheme}; use http or https")
    return Proxy(url)


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return a variable's name as it is written, and its value; lower case wins."""
    written = name if name in environ else name.upper()
    return written, environ.get(written, "").strip()


# Exemptions: "*", a name with all below it, an address, a network; each but the last perhaps with a port.


def _exemption(text: str) -> Exemption:
    if text == "*":
        return lambda _host, _port: True
    try:
        return partial(_in_network, ipaddress.ip_network(text.strip("[]"), strict=False))
    except ValueError:
        host, port = _host_and_port(text)
    name = host.lower().removeprefix("*").strip(".")
    return partial(_is_named, name, port)


def _host_and_port(text: str) -> tuple[str, int | None]:
    host, colon, port = text.rpartition(":")
    if colon and port.isascii() and port.isdigit():
        return host.strip("[]"), int(port)
    return text, None


def _in_network(network: ipaddress.IPv4Network | ipaddress.IPv6Network, host: str, _port: int) -> bool:
    address = _address(host)
    return address is not None and address in network


def _is_named(name: str, wanted: int | None, host: str, port: int) -> bool:
    if wanted not in {None, port}:
        return False
    literal = _address(name)
    if literal is not None:
        return literal == _address(host)
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
