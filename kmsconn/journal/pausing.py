"""The kinds of requests that an operator has paused: recorded as ever, not dispatched, over every restart. Never dispatches."""

from __future__ import annotations

import attrs

from kmsconn.journal.database import Database
from kmsconn.journal.operations import reads
from kmsconn.model.requests import Kind

_PAUSE = "INSERT INTO paused (kind, since, reason) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_RESUME = "DELETE FROM paused WHERE kind = ?"
_PAUSED = "SELECT kind, since, reason FROM paused ORDER BY kind"
_KINDS = frozenset(Kind)


@attrs.frozen
class PausedKind:
    """A kind that is paused, since when (wall time), and what the operator said."""

    kind: Kind
    since: float
    reason: str = ""


def pause(db: Database, paused: PausedKind) -> bool:
    """Pause a kind; False where it is paused already: then that stays as it was."""
    return db.execute(_PAUSE, (paused.kind.value, paused.since, paused.reason)).rowcount == 1


def resume(db: Database, kind: Kind) -> bool:
    """End a pause; False where there is none."""
    return db.execute(_RESUME, (kind.value,)).rowcount == 1


@reads
def paused_kinds(db: Database) -> tuple[PausedKind, ...]:
    """Return the kinds that are paused."""
    return tuple(PausedKind(Kind(kind), *rest) for kind, *rest in db.execute(_PAUSED) if kind in _KINDS)
