"""Alerts about key management, read from the journal, so that a restart forgets none of it. Ends no request.

*Overdue.* Requests for keys, contexts and epochs never expire: they wait until the chain says that they are over, for days if need be. One
that has waited for an hour is named.

*Undone.* A request that was rejected or quarantined is undone until a later one of its kind is done, or until an operator retries it.
A request whose context or epoch was destroyed meanwhile is meant to end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

from kmsconn.ethereum.ids import id_name
from kmsconn.journal import queries
from kmsconn.journal.journal import Journal, until_kept
from kmsconn.journal.values import RowEnding, Waiting
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertRaised, Severity
from kmsconn.model.life import RowCause, State
from kmsconn.model.requests import DECRYPTION_KINDS, Kind
from kmsconn.protocols.profile import Profile

LONG = 3600.0  # seconds
OVERDUE_INTERVAL = 60.0  # seconds between looks
OVERDUE = "overdue"
NAMED = 16  # overdue requests; more are not named one by one

UNDONE_INTERVAL = 5.0  # seconds between looks
NEWEST = 64  # endings of a kind that are looked at
UNDONE = "undone"

KEY_MANAGEMENT = tuple(kind for kind in Kind if kind not in DECRYPTION_KINDS)
STOPPING = frozenset({Kind.NEW_KMS_CONTEXT, Kind.NEW_KMS_EPOCH})
"""Without these nothing can be answered in the next context."""
_FAILED = frozenset({State.REJECTED, State.QUARANTINED})


async def name_overdue(profile: Profile, journal: Journal, wall: Callable[[], float], board: Board) -> float:
    """Name what has waited for an hour, and never expires."""
    kinds = [kind for kind, operation in profile.operations.items() if not operation.expires]
    waiting = await until_kept(lambda: journal.run(queries.waiting, kinds, wall() - LONG, NAMED))
    board.show(OVERDUE, [_overdue_alert(one) for one in waiting])
    return OVERDUE_INTERVAL


def _overdue_alert(one: Waiting) -> AlertRaised:
    text = f"has waited for more than an hour; reason: {one.reason or 'its turn'}"
    return AlertRaised(f"{one.kind} 0x{one.id:064x}", OVERDUE, text)


async def name_undone(journal: Journal, board: Board) -> float:
    """Name the kinds of key management whose last requests failed."""
    endings = await until_kept(lambda: journal.run(queries.endings, KEY_MANAGEMENT, NEWEST))
    failed = {kind: found for kind, ended in endings.items() if (found := undone(ended))}
    board.show(UNDONE, [_undone_alert(kind, found) for kind, found in failed.items()])
    return UNDONE_INTERVAL


def _undone_alert(kind: Kind, found: Sequence[RowEnding]) -> AlertRaised:
    last, severity = found[0], Severity.CRITICAL if kind in STOPPING else Severity.WARNING
    text = f"{len(found)} such requests ended unfinished, the last one, {id_name(last.id)}, {last.state}: {last.reason}"
    return AlertRaised(str(kind), UNDONE, text, severity, count=len(found))


def undone(endings: Sequence[RowEnding]) -> list[RowEnding]:
    """Return what failed since the last request that was done, the newest first."""
    later = takewhile(lambda one: one.state in _FAILED, endings)
    return [one for one in later if RowCause.DESTROYED not in one.cause]
