"""Which contexts, epochs and keys a Core has. Decides nothing."""

from __future__ import annotations

import attrs

from kmsconn.emulator.core_requests import DEFAULT_CONTEXT, DEFAULT_EPOCH, ID_BYTES
from kmsconn.ethereum.ids import KEY_TAG, make_id

DEFAULT_KEY = make_id(KEY_TAG, 1).to_bytes(ID_BYTES)


@attrs.define
class CoreIds:
    """The ids of what a Core has; a fresh one has the first of each."""

    contexts: set[bytes] = attrs.field(factory=lambda: {DEFAULT_CONTEXT})
    epochs: set[bytes] = attrs.field(factory=lambda: {DEFAULT_EPOCH})
    keys: set[bytes] = attrs.field(factory=lambda: {DEFAULT_KEY})

    def clear(self) -> None:
        """Have nothing, as a Core that joins later."""
        for ids in (self.contexts, self.epochs, self.keys):
            ids.clear()
