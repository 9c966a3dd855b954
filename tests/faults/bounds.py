"""How much of an exhaustive suite one run does: some points each time, others every day, all when asked."""

from __future__ import annotations

import os
import time

from kmsconn.testing.harness import points

WANTED = "KMSCONN_POINTS"
USUAL = 4
DAY = 86_400
TURNS = 3


def has_its_turn(at: int) -> bool:
    """Say whether the test number ``at`` of those that take long is run today: one in ``TURNS``, all with ``KMSCONN_LONG=all``."""
    return os.environ.get("KMSCONN_LONG") == "all" or (at + int(time.time() // DAY)) % TURNS == 0


def points_of(total: int, usual: int = USUAL) -> range:
    """Return the numbers from 1 to ``total`` that this run tries."""
    wanted = os.environ.get(WANTED, str(usual))
    turn = int(time.time() // DAY)
    return points(total, total if wanted == "all" else int(wanted), turn)
