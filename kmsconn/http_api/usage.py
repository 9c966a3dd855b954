"""The snapshot of the HTTP server: its connections and waiting clients. Data only, for those who show it without the server's libraries."""

from __future__ import annotations

import attrs


@attrs.frozen
class HttpApiStatistics:
    """How much of its bounds the HTTP server uses.

    ``waiting``: clients that wait for an answer, of ``places``; ``dropped``: connections so far that had to go for another one.
    """

    waiting: int = 0
    places: int = 0
    connections: int = 0
    connections_limit: int = 0
    dropped: int = 0
    body_bytes: int = 0
    certificate_end: float | None = None
    """Unix time; None without TLS."""
