"""Alerts about key management that ended without being done, read from the journal: a restart forgets none of it. Ends nothing.

A request that was rejected or quarantined is undone until a later one of its kind is done, or until an operator lets it begin again.
What was destroyed meanwhile is meant to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Never

import attrs
import trio

from kmsconn.app.retrying import until_kept
from kmsconn.ethereum.ids import id_name
from kmsconn.journal import queries
from kmsconn.journal.journal import Journal
from kmsconn.journal.values import RowEnding
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import OnEvent, Severity
from kmsconn.model.life import State
from kmsconn.model.requests import Kind

UNDONE_INTERVAL = 5.0  # seconds between looks
NEWEST = 64  # endings of a kind that are looked at
UNDONE = "undone"

KEY_MANAGEMENT = tuple(kind for kind in Kind if kind not in {Kind.PUBLIC_DECRYPTION, Kind.USER_DECRYPTION})
STOPPING = frozenset({Kind.NEW_KMS_CONTEXT, Kind.NEW_KMS_EPOCH})
"""Without these nothing can be answered in the next context."""
_FAILED = frozenset({State.REJECTED, State.QUARANTINED})


@attrs.define
class Undone:
    """The watch over how key management ended."""

    journal: Journal
    on_event: OnEvent
    _alerts: Alerts = attrs.field(
        default=attrs.Factory(lambda self: Alerts(self.on_event), takes_self=True), init=False
    )

    async def run(self) -> Never:
        """Look for ever. Cancellation: at any time. Repeating: each alert is raised once, and again when its text changes."""
        while True:
            for kind in KEY_MANAGEMENT:
                endings = await until_kept(lambda: self.journal.run(queries.endings, kind, NEWEST))  # noqa: B023 - called at once
                self._tell(kind, undone(endings))
            await trio.sleep(UNDONE_INTERVAL)

    def _tell(self, kind: Kind, endings: Sequence[RowEnding]) -> None:
        text, severity = "", Severity.CRITICAL if kind in STOPPING else Severity.WARNING
        if endings:
            last = endings[0]
            text = f"{len(endings)} such ended undone, the last one, {id_name(last.id)}, {last.state}: {last.reason}"
        self._alerts.put(str(kind), UNDONE, text, severity, count=len(endings))


def undone(endings: Sequence[RowEnding]) -> list[RowEnding]:
    """Return what failed since the last request that was done, the newest first."""
    later = takewhile(lambda one: one.state in _FAILED, endings)
    return [one for one in later if "destroyed" not in one.reason]
