"""Listening sockets. Accepts nobody itself."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

import trio

BACKLOG: Final = 1024
"""Clients that the kernel lets wait to be accepted; beyond it one is heard a second later at best."""


async def listen_at(address: str) -> Sequence[trio.SocketListener]:
    """Return the listener of ``host:port``, ``[::]:port`` for IPv6. Raises OSError where the address cannot be had."""
    host, _, port = address.rpartition(":")
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    await trio.lowlevel.checkpoint()
    bound = socket.create_server((bare, int(port)), family=family, backlog=BACKLOG)
    return [trio.SocketListener(trio.socket.from_stdlib_socket(bound))]
