"""What is looked at every second: the state alerts of the connector, and the journal with the counts of its rows.

The journal has an alert while it cannot be used, or rows of it cannot be read. Nothing is repaired here: a disk that is full, a file that
was moved and a damaged row are matters for an operator.
This machine's clock is judged by the newest block of all chains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Never

import attrs
import trio

from kmsconn.connector.event_hook import ForeignTransactions, ShadowFindings
from kmsconn.errors import JournalFailed
from kmsconn.journal import queries
from kmsconn.journal.journal import Journal
from kmsconn.journal.queries import Counts
from kmsconn.journal.sqlite import free_bytes
from kmsconn.model.alerts import Board, alert_of
from kmsconn.model.events import AlertRaised
from kmsconn.requests.components import ChainContext, Components
from kmsconn.requests.core_health import CONNECTION

CLOCK_AHEAD = 120.0  # seconds behind the clock that the newest block of all chains may be: several blocks of the slowest
CLOCK_BEHIND = 30.0  # seconds before the clock that a newest block may be

SET_CLOCK = "set the clock by NTP (chronyd, systemd-timesyncd)"
OTHER_NODE = "name a node that has caught up"


def wrong_clock(newest: float, now: float) -> str:
    """Say what is wrong with a clock that shows ``now`` when the newest block of all has just come; nothing where nothing is."""
    if newest - now > CLOCK_BEHIND:
        return f"{newest - now:.0f} s behind the newest block"
    if now - newest > CLOCK_AHEAD:
        return f"{now - newest:.0f} s ahead of the newest block of every chain"
    return ""


@attrs.define
class ClockWatch:
    """What the last new block of all chains said of the clock: chains that stand still say nothing of the time."""

    _newest: float | None = None
    _wrong: str = ""

    def look(self, heads: Iterable[float | None], now: float) -> str:
        """Take the times of the newest blocks and what the clock shows; say what is wrong with it, or nothing."""
        newest = max((time for time in heads if time is not None), default=self._newest)
        if newest != self._newest:
            self._wrong = "" if self._newest is None or newest is None else wrong_clock(newest, now)
            self._newest = newest
        return self._wrong


ALERT_INTERVAL = 1.0  # seconds between looks
FINALITY_IS_LATE_AFTER = 2700.0
"""Seconds between the head and the finalized block: on Ethereum 13 to 20 minutes are usual."""


async def show_alerts(
    components: Components, foreign_transactions: ForeignTransactions | ShadowFindings
) -> Never:
    """Look for ever. Cancellation: at any time; what was raised is not cleared."""
    finalized = {one.chain_id for one in components.profile.subscriptions() if one.finalized}
    clock = ClockWatch()
    while True:
        now = trio.current_time()
        alerts = (
            components.core_health.alerts(now),
            _holdups(components, now),
            foreign_transactions.alerts(now),
            _finality(components.chain_contexts[chain_id] for chain_id in finalized),
            _paused(components),
            _clock(components, clock),
        )
        components.board.show("state", [alert for several in alerts for alert in several])
        await trio.sleep(ALERT_INTERVAL)


def _clock(components: Components, watch: ClockWatch) -> Iterator[AlertRaised]:
    """Return an alert while this machine's clock is not that of the chains."""
    heads = (one.head.timestamp for one in components.chain_contexts.values())
    if wrong := watch.look(heads, components.ports.wall()):
        yield AlertRaised("clock of this machine", "clock", wrong)


def _paused(components: Components) -> Iterator[AlertRaised]:
    """Return an alert for each kind that an operator has paused, so that nobody forgets it."""
    for one in (one for pool in components.pools.values() for one in pool.paused.values()):
        since = datetime.fromtimestamp(one.since, UTC).isoformat(timespec="seconds")
        said = f" ({one.reason})" if one.reason else ""
        text = f"an operator has paused {one.kind} at {since}{said}: requests are recorded and wait; their deadlines go on"
        yield AlertRaised(one.kind, "paused", text, remedy=f"kmsconn resume {one.kind}")


def _finality(chains: Iterable[ChainContext]) -> Iterator[AlertRaised]:
    """Return an alert for each of the chains, which are read up to their finalized blocks, that has stopped finalizing."""
    for chain in chains:
        head, finalized = chain.head.timestamp, chain.finalized.timestamp
        if head is not None and finalized is not None and head - finalized > FINALITY_IS_LATE_AFTER:
            text = f"block {chain.finalized.number} is the last finalized one, {(head - finalized) / 60:.0f} minutes behind the head"
            yield AlertRaised(chain.name, "not-finalizing", text)


def _holdups(components: Components, now: float) -> Iterator[AlertRaised]:
    """Return what requests meet; that calls to a Core fail only where its health check says otherwise."""
    health, runner = components.core_health, components.pipeline.runner
    runner.note_hanging(now)
    holdups = runner.progress.holdups(now)
    reasons = [one.reason for one in holdups]
    failing = {reason.dependency for reason in reasons if reason.cause in CONNECTION}
    serving = health.suspect(failing & set(health.core.endpoints), now)
    for one in holdups:
        known = one.reason.cause in CONNECTION and one.reason.dependency in health.core.endpoints
        if not known or one.reason.dependency in serving:
            yield alert_of(one, "request", "requests")


JOURNAL_WATCH_INTERVAL = 1.0  # seconds between looks
LOOKING = 5.0  # seconds: while it is not known what became of a commit nothing is answered, and that is what is to be told
NAMED = 8  # damaged rows; more are only counted
JOURNAL = "journal"

_PUT_BACK = (
    "Nothing is answered meanwhile. Move the same file back; or restart kmsconn, which makes a new journal and reads the chain "
    "again from decryption_from_block_number"
)
_START_STANDBY = (
    "start the standby that synchronous_standby_names names, and see that it connects; or take it out of that setting and reload the "
    "server: commits are kept by one server alone then"
)
_CHECK_DISK = (
    "Their requests are read again from the chain where the contract numbers them. Check the disk; when more rows are damaged, "
    "stop kmsconn and restore the file from a backup"
)


@attrs.define
class JournalWatch:
    """The watch over one journal; ``counts`` are the newest ones."""

    journal: Journal
    wall: Callable[[], float]
    board: Board
    beat: Callable[[], None] = lambda: None
    """Is called after each look."""
    counts: Counts | None = None
    path: Path | None = None
    free: int | None = None
    """Bytes left on the file system of the journal at its path; what is left to a database server is not for its clients to see."""

    async def look(self) -> float:
        """Look once. Cancellation: at any time."""
        misplaced = unconfirmed = ""
        self.free = None if self.path is None else free_bytes(self.path)
        with trio.move_on_after(LOOKING), suppress(JournalFailed):
            misplaced = await self.journal.run(queries.misplaced)
            unconfirmed = await self.journal.run(queries.unconfirmed)
            self.counts = await self.journal.run(queries.counts, self.wall())
        self.board.show(JOURNAL, self._alerts(misplaced, unconfirmed))
        self.beat()
        return JOURNAL_WATCH_INTERVAL

    def _alerts(self, misplaced: str, unconfirmed: str) -> Iterator[AlertRaised]:
        """Return what is wrong with the journal. Damaged rows stay named: what was in them is known to nobody here any more.

        A commit without a confirmation fails later in other words, so the standby is named first.
        """
        if warnings := self.journal.warnings:
            yield AlertRaised("journal file", "permissions", "; ".join(warnings))
        if misplaced:
            yield AlertRaised(JOURNAL, "misplaced", misplaced, remedy=_PUT_BACK)
        elif unconfirmed:
            yield AlertRaised(JOURNAL, "unwritable", unconfirmed, remedy=_START_STANDBY)
        elif failure := self.journal.failures.text:
            yield AlertRaised(JOURNAL, "unwritable", failure)
        if damaged := self.journal.damaged:
            named = "; ".join(f"row {rid}: {why}" for rid, why in islice(damaged.items(), NAMED))
            text = f"rows of the journal are damaged and were set aside: {named}"
            yield AlertRaised("journal rows", "damaged-rows", text, remedy=_CHECK_DISK, count=len(damaged))
