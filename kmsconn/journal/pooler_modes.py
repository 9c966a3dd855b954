"""How a pooler before a server hands out the server's connections, and what to do about the mode that breaks us. In words; asks nobody.

Needs no package of PostgreSQL: doctor says these words in an installation without them, too.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

BREAKS: Final = (
    "a pooler in transaction mode, which breaks prepared statements, LISTEN and what is set for a session"
)
REMEDY: Final = (
    "connect to the server itself, or set pool_mode = session for this database and user in the pooler"
)


class PoolerMode(StrEnum):
    """How a pooler hands out the server's connections; by the transaction includes by the statement."""

    NONE = "no pooler"
    SESSION = "session"
    TRANSACTION = "transaction"
