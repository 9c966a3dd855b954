"""Keeps loopback ports for processes that listen on them later, and again after each restart. Listens on none itself.

A port that was only looked up is anybody's until its owner listens: between two lives of a connector the system gave it to another
program of the machine. A port to which a socket is bound is given to nobody who asks the system for a free one, and no outgoing
connection begins there; who names it can listen on it nevertheless where both sockets have ``SO_REUSEADDR``, as servers have.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

HOST: Final = "127.0.0.1"
_HOLDS: Final = sys.platform == "linux"
"""Elsewhere nobody listens on a port to which another socket is bound."""


@contextmanager
def reserve_ports(count: int) -> Iterator[tuple[int, ...]]:
    """Keep different ports while the block lasts; where the system cannot, they were free a moment ago."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((HOST, 0))
        ports = tuple(one.getsockname()[1] for one in sockets)
        if not _HOLDS:
            held.close()
        yield ports
