"""Brings transitions from the journal's outbox into the audit log: in batches, off the loop, a second after they happened at most.

A log that cannot be written is an alert, and requests go on: their transitions wait in the outbox.
"""

from __future__ import annotations

from functools import partial
from typing import Final, Never

import attrs
import trio

from kmsconn import __version__
from kmsconn.errors import JournalFailed
from kmsconn.ethereum.addresses import checksum
from kmsconn.journal import audit
from kmsconn.journal.audit import AuditFile
from kmsconn.journal.journal import Journal
from kmsconn.model.alerts import Board
from kmsconn.requests.components import Components
from kmsconn.transport.ports import Offload

AUDIT_INTERVAL: Final = 1.0  # seconds between looks into the outbox
AUDIT_RETRY: Final = 10.0  # seconds after a failure
AUDIT_BATCH: Final = 512  # transitions of one fsync
AUDIT_FAREWELL: Final = 5.0  # seconds for what happened last, when the connector ends
AUDIT_LOG: Final = "audit log"
_REMEDY: Final = "free the disk or repair the file; requests go on, and their transitions wait in the journal until the log takes them"
_LOOK: Final = "run `kmsconn audit verify` on its files, and compare them with a backup"


@attrs.define
class Auditing:
    """The task that writes one audit log."""

    journal: Journal
    file: AuditFile
    offload: Offload
    board: Board
    _opened: bool = False

    @classmethod
    def of(cls, components: Components) -> Auditing:
        """Return the task for a connector whose settings name an audit log."""
        settings, path = components.settings, components.settings.storage.audit_log
        assert path is not None, "there is no audit log"
        origin = {
            "version": __version__,
            "profile": settings.protocol.profile,
            "chain": settings.chains.gateway.chain_id,
            "sender": checksum(components.tx_sender),
        }
        file = AuditFile(path, origin, components.ports.wall)
        return cls(components.journal, file, components.ports.offload, components.board)

    async def run(self) -> Never:
        """Write for ever. Cancellation: what the outbox holds then has ``AUDIT_FAREWELL`` seconds. Repeating: no line is written twice."""
        try:
            while True:  # noqa: ASYNC110 - the outbox is a table: nothing tells of a row in it
                await trio.sleep(AUDIT_INTERVAL if await self._round() else AUDIT_RETRY)
        finally:
            await self._say_farewell()  # noqa: ASYNC102 - shields itself, with a deadline

    async def _say_farewell(self) -> None:
        """Write what happened last, within a deadline, and close the file in any case."""
        try:
            with trio.move_on_after(AUDIT_FAREWELL, shield=True):
                await self._round()
        finally:
            self.file.close()

    async def _round(self) -> bool:
        """Write all that waits; say whether the log took it."""
        try:
            await self._open()
            while happened := await self.journal.run(audit.pending, AUDIT_BATCH):
                await self.offload("audit", partial(self.file.append, happened))
                await self.journal.run(audit.written, self.file.end)
        except OSError as error:
            self._opened = False
            text = f"{error.strerror or error}: {error.filename or 'the audit log'}"
            self.board.set("unwritable", AUDIT_LOG, text, critical=False, remedy=_REMEDY)
            return False
        except JournalFailed:  # has an alert of its own
            return False
        self.board.set("unwritable", AUDIT_LOG, None)
        return True

    async def _open(self) -> None:
        if self._opened:
            return
        known = await self.journal.run(audit.read_head)
        for warning in await self.offload("audit", lambda: self.file.open(known)):
            self.board.set("misplaced", AUDIT_LOG, warning, critical=False, remedy=_LOOK)
        self._opened = True
