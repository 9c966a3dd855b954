"""Where ``KMSGeneration`` keeps what. Source: fhevm-0.14.md, E.2; fhevm-0.15.md, 1.2."""

from __future__ import annotations

from kmsconn.protocols.queries import base_slot

PREP_TAG, KEY_TAG, CRS_TAG = 0x03, 0x04, 0x05
TAG_SHIFT = 248
BASE = base_slot("fhevm.storage.KMSGeneration")
ANSWERED, DONE, DIGEST, PAIR = BASE, BASE + 1, BASE + 3, BASE + 6
PREP_COUNTER, KEY_COUNTER, CRS_COUNTER = BASE + 4, BASE + 5, BASE + 9
EXISTING_BY_REQUEST, REQUEST_BY_EXISTING = BASE + 17, BASE + 18
CONTEXT = slice(1, 33)
"""Where extraData has the context."""
