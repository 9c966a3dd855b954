"""What the HTTP server asks of the connector: decrypt this content. Never knows HTTP, and never the journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs

from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.requests import Content


@attrs.frozen
class HttpResult:
    """The answer to a decryption over HTTP. ``fields`` are those of the response's body, by their names there, in order."""

    decryption_id: int
    fields: Mapping[str, bytes]

    def document(self) -> dict[str, str]:
        """Return the body of the response, to be written as JSON (5.5)."""
        named = {name: to_hex(value) for name, value in self.fields.items()}
        return {"decryptionId": f"0x{id_hex(self.decryption_id)}", **named}


class Decryptions(Protocol):
    """Decrypts what HTTP requests ask for."""

    async def decrypt(self, content: Content) -> HttpResult:
        """Return this node's answer as soon as there is one, however long that takes.

        Raises HttpFailure once the request has ended without an answer. Cancellation: the client has left or waits no longer; the work
        goes on. Repeating: the same content waits for the same work, or has its answer at once.
        """
        ...
