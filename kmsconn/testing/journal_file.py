"""The journal of a running connector, read from its file as another process would. Never writes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs

from kmsconn.model.life import State
from kmsconn.model.requests import NO_BLOCK, Kind


@attrs.frozen
class Kept:
    """A row of the journal's file, as much as is looked at."""

    rid: int
    kind: Kind
    id: int
    digest: bytes
    state: State
    on_chain: bool
    answered: bool
    nonce: int | None
    reply_hash: bytes | None
    reason: str
    block: int

    @property
    def over_http(self) -> bool:
        """Whether it came over HTTP and not from a chain."""
        return self.block == NO_BLOCK


_DIGEST = "SELECT digest FROM request WHERE rid = ?"
_KEPT = "SELECT rid, kind, id, digest, state, on_chain, calldata IS NOT NULL, nonce, reply_hash, reason, block FROM request"


def kept_in(journal: Path) -> list[Kept]:
    """Read the committed rows of a journal; none where there is no file."""
    if not journal.exists():
        return []
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        try:
            rows = connection.execute(_KEPT).fetchall()
        except sqlite3.OperationalError:  # killed before the tables were there
            return []
    return [_kept(*row) for row in rows]


def digest_in(journal: Path, rid: int) -> bytes:
    """Return the digest of a committed row's content."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        (digest,) = connection.execute(_DIGEST, (rid,)).fetchone()
    assert isinstance(digest, bytes)
    return digest


def _kept(rid: int, kind: str, identifier: bytes, digest: bytes, state: str, *rest: Any) -> Kept:
    on_chain, answered, *others = rest
    where = (rid, Kind(kind), int.from_bytes(identifier), digest, State(state), bool(on_chain))
    return Kept(*where, bool(answered), *others)
