"""Finds out which scheme an address speaks that does not answer to the configured one, such as http in the place of wss."""

from __future__ import annotations

import trio

from kmsconn.config.settings import Chain
from kmsconn.errors import KmsconnError, StartRefused
from kmsconn.rpc.endpoint import Endpoint, open_endpoint
from kmsconn.transport.http import open_http
from kmsconn.transport.ports import Ports
from kmsconn.transport.urls import TLS_SCHEMES, parse

SCHEME_LIMIT = 3.0  # seconds for one scheme: who speaks it does so at once
_OTHERS = {
    "wss": ("https", "ws", "http"),
    "ws": ("http", "wss", "https"),
    "https": ("wss", "http", "ws"),
    "http": ("ws", "https", "wss"),
}


async def find_scheme(url: str, ports: Ports) -> str:
    """Return the scheme to which the address of a URL answers as a node; empty where there is none.

    Path, query and user info are left out where they would go in the clear though they were meant for TLS: they may be keys.
    Repeating: reads only. Cancellation: at any time.
    """
    for scheme in _OTHERS.get(parse(url).scheme, ()):
        with trio.move_on_after(SCHEME_LIMIT):
            if await _answers(_rewritten(url, scheme), ports):
                return scheme
    return ""


def _rewritten(url: str, scheme: str) -> str:
    parsed = parse(url)
    if parsed.tls and scheme not in TLS_SCHEMES:
        return f"{scheme}://{_host(parsed.host)}:{parsed.port}"
    return f"{scheme}://{_host(parsed.host)}:{parsed.port}{parsed.target}"


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _answers(url: str, ports: Ports) -> bool:
    """Say whether a node answers, whatever its chain."""
    async with open_http(ports) as http, open_endpoint(Chain(-1, (url,)), "address", ports, http) as one:
        return await _says_chain(one)


async def _says_chain(endpoint: Endpoint) -> bool:
    try:
        await endpoint.probe()
    except StartRefused:  # it has told its chain id, which is another than −1
        return True
    except KmsconnError:
        return False
    return True
