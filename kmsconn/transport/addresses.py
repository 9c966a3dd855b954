"""Which addresses belong to the public internet. No I/O, no Trio, and no opinion of the Python version.

The standard library's ``is_global`` changes between versions: on 3.11 6to4 and multicast addresses are global, on later ones not.
So the registries are spelt out here, and what is not known to be public is private.

Source: the IANA special-purpose address registries (RFC 6890) and the IPv6 address space, where 2000::/3 alone is global unicast.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final

REMEMBERED_ADDRESSES: Final = 256

_V4: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",
            "100.64.0.0/10",  # carriers' address translators
            "127.0.0.0/8",
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
