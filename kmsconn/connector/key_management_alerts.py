"""Alerts about key management, read from the journal, so that a restart forgets none of it. Ends no request.

*Overdue.* Requests for keys, contexts and epochs never expire: they wait until the chain says that they are over, for days if need be. One
that has waited for an hour is named.

*Undone.* A request that was rejected or quarantined is undone until a later one of its kind is done, or until an operator retries it.
A request whose context or epoch was destroyed meanwhile is meant to end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Never

import attrs
import trio

from kmsconn.ethereum.ids import id_name
from kmsconn.journal import queries
from kmsconn.journal.journal import Journal, until_kept
from kmsconn.journal.values import RowEnding, Waiting
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertRaised, Severity
from kmsconn.model.life import RowCause, State
from kmsconn.model.requests import DECRYPTION_KINDS, Kind
from kmsconn.protocols.profile import Profile
from kmsconn.transport.ports import Ports

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


@attrs.define
class OverdueRequests:
    """The watch over requests that never expire."""

    profile: Profile
    journal: Journal
    ports: Ports
    board: Board

    async def run(self) -> Never:
        """Look for ever. Cancellation: at any time. Repeating: each is told once, and again when its reason changes."""
        kinds = [kind for kind, operation in self.profile.operations.items() if not operation.expires]
        while True:
            self._tell(
                await until_kept(
                    lambda: self.journal.run(queries.waiting, kinds, self.ports.wall() - LONG, NAMED)
                )
            )
            await trio.sleep(OVERDUE_INTERVAL)

    def _tell(self, waiting: tuple[Waiting, ...]) -> None:
        present = {f"{one.kind} 0x{one.id:064x}": one.reason or "its turn" for one in waiting}
        texts = {
            name: f"has waited for more than an hour; reason: {reason}" for name, reason in present.items()
        }
        self.board.show(
            OVERDUE, [AlertRaised(name, OVERDUE, text, Severity.WARNING) for name, text in texts.items()]
        )


@attrs.define
class FailedKeyManagement:
    """The watch over how key management ended."""

    journal: Journal
    board: Board

    async def run(self) -> Never:
        """Look for ever. Cancellation: at any time. Repeating: each alert is raised once, and again when its text changes."""
        while True:
            self._tell(await until_kept(lambda: self.journal.run(queries.endings, KEY_MANAGEMENT, NEWEST)))
            await trio.sleep(UNDONE_INTERVAL)

    def _tell(self, endings: Mapping[Kind, Sequence[RowEnding]]) -> None:
        failed = {kind: found for kind, ended in endings.items() if ended and (found := undone(ended))}
        self.board.show(UNDONE, [_undone_alert(kind, found) for kind, found in failed.items()])


def _undone_alert(kind: Kind, found: Sequence[RowEnding]) -> AlertRaised:
    last, severity = found[0], Severity.CRITICAL if kind in STOPPING else Severity.WARNING
    text = f"{len(found)} such requests ended unfinished, the last one, {id_name(last.id)}, {last.state}: {last.reason}"
    return AlertRaised(str(kind), UNDONE, text, severity, count=len(found))


def undone(endings: Sequence[RowEnding]) -> list[RowEnding]:
    """Return what failed since the last request that was done, the newest first."""
    later = takewhile(lambda one: one.state in _FAILED, endings)
    return [one for one in later if RowCause.DESTROYED not in one.cause]
