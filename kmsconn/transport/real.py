"""The ports of a connector in the real world: sockets, threads, the wall clock and the system's randomness."""

from __future__ import annotations

import random
import time

from kmsconn.transport.dialling import dial_sockets
from kmsconn.transport.offloading import offload_to_threads
from kmsconn.transport.ports import Ports


def real_ports() -> Ports:
    """Return sockets, threads, the wall clock and the system's randomness."""
    return Ports(dial_sockets, offload_to_threads, time.time, random.random)
