"""Starts the connector anew in the same process when what it knew of its journal does not hold any more (``errors.StartAgain``).

That is as after a restart of the process, without the wait for a supervisor: cursors are read again, the contracts are asked. The database
may be out of reach just then, so a refused start is tried again for a while, unless it was the first one. A server that does not answer is
waited for at any start, as every dependency is. A journal whose tables have become too new for this program ends it at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final, TypeVar

import attrs
import trio
from structlog.typing import FilteringBoundLogger

from kmsconn.errors import (
    JournalFailed,
    JournalTooNew,
    JournalUnreachable,
    JournalWentBack,
    StartAgain,
    StartRefused,
)
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertCleared, AlertRaised
from kmsconn.operate.commands.endings import leaves
from kmsconn.transport.waiting import Backoff

T = TypeVar("T")

BETWEEN_STARTS: Final = Backoff(first=0.2, cap=5.0)
STARTED_WELL: Final = 60.0  # seconds after which a connector that begins anew counts as the first one
PATIENCE: Final = 60.0  # seconds for which a start that is refused is tried again
SHOWN: Final = 300.0  # seconds for which it is told that the connector was started anew
TOLD_EACH: Final = 12  # starts for which a journal is waited that are told once: about a minute
MEMBERSHIP: Final = "membership"
JOURNAL: Final = "journal"


@attrs.define
class StartingAnew:
    """Runs a connector again and again until it has drained. ``signals`` end the pauses between: nothing runs that would heed them.

    ``present``: all alerts that are shown. Those of a connector that has ended are cleared: the next one raises what still holds.
    """

    log: FilteringBoundLogger
    board: Board
    signals: AsyncIterator[int]
    random: Callable[[], float]
    present: Callable[[], Iterable[AlertRaised]] = tuple
    _starts: int = 0
    """Starts anew since the connector last ran for long."""
    _since: float | None = None
    """When the connector ended that is started anew."""

    async def run(self, once: Callable[[], Awaitable[T]]) -> T | None:
        """Return what ``once`` returns when the connector has drained; None when a signal came between two connectors.

        Raises what else ends a connector. Cancellation: as ``once``.
        """
        while True:
            began = trio.current_time()
            try:
                return await once()
            except (StartAgain, StartRefused, BaseExceptionGroup) as error:
                if not (why := self._why(error)):
                    raise
                self._note(why, error, began)
            if await self._pause():
                return None

    def _why(self, error: BaseException) -> str:
        """Say why the connector is to be started anew; nothing where it is not."""
        causes = [*leaves(error)]
        if not all(isinstance(one, (StartAgain, StartRefused, JournalFailed)) for one in causes):
            return ""
        if any(isinstance(one, JournalTooNew) for one in causes):
            return ""
        again = [one for one in causes if isinstance(one, (StartAgain, JournalUnreachable))]
        if not again and not self._is_patient():
            return ""
        return str((again or causes)[0])

    def _is_patient(self) -> bool:
        return self._since is not None and trio.current_time() - self._since < PATIENCE

    def _note(self, why: str, error: BaseException, began: float) -> None:
        self._clear_others()
        now = trio.current_time()
        if self._since is None or now - began >= STARTED_WELL:
            self._since, self._starts = now, 0
        self._starts += 1
        if any(isinstance(one, JournalUnreachable) for one in leaves(error)):
            if self._starts % TOLD_EACH == 1:
                self.log.warning("waiting for the journal", reason=why, starts=self._starts)
            self.board.set("unwritable", JOURNAL, why)
            return
        went_back = any(isinstance(one, JournalWentBack) for one in leaves(error))
        cause = "journal-went-back" if went_back else "lease-lost"
        self.log.warning("starting anew", reason=why, starts=self._starts)
        self.board.set(cause, MEMBERSHIP, f"the connector was started anew: {why}")

    def _clear_others(self) -> None:
        """Clear the alerts of the connector that has ended: nobody else would."""
        for alert in self.present():
            if (alert.dependency, alert.cause) not in self.board:
                self.board.on_event(AlertCleared(alert.dependency, alert.cause))

    async def _pause(self) -> bool:
        """Wait a little; say whether a signal ended that."""
        with trio.move_on_after(BETWEEN_STARTS.seconds(self._starts - 1, self.random())):
            await anext(self.signals)
            return True
        return False

    def reached(self) -> None:
        """Take back that the journal cannot be reached. Repeating: no effect."""
        self.board.set("unwritable", JOURNAL, None)

    async def forget(self) -> None:
        """Clear the alerts once the connector has run for a while."""
        await trio.sleep(SHOWN)
        for alert in self.board:
            self.board.set(alert.cause, alert.dependency, None)
