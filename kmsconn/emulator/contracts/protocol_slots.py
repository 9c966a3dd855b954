"""Where ``ProtocolConfig`` keeps its state, laid out as in the real contract. Changes nothing.

Source: fhevm-0.14.md, annex E.2.
"""

from __future__ import annotations

from enum import IntEnum

from kmsconn.protocols.queries import base_slot

BASE = base_slot("fhevm.storage.ProtocolConfig")
NEWEST_CONTEXT, DESTROYED, ACTIVE_CONTEXT = BASE, BASE + 10, BASE + 11
NEWEST_EPOCH, ACTIVE_EPOCH = BASE + 12, BASE + 13
CONTEXT_STATE, EPOCH_STATE, EPOCH_CONTEXT = BASE + 14, BASE + 15, BASE + 16
CONTEXT_CONFIRMED, EPOCH_CONFIRMED = BASE + 17, BASE + 18


class ContextState(IntEnum):
    """A context's state."""

    NONE = 0
    PENDING = 1
    CREATED = 2
    ACTIVE = 3


class EpochState(IntEnum):
    """An epoch's state."""

    NONE = 0
    PENDING = 1
    ACTIVE = 2
