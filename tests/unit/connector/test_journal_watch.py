"""The watch over the journal tells of a journal that answers nothing, and goes on."""

from __future__ import annotations

import trio

from kmsconn.connector.alerting import LOOKING, JournalWatch
from kmsconn.connector.upkeep import keep_looking
from kmsconn.journal import moves
from kmsconn.journal.database import Database
from kmsconn.journal.journal import Journal
from kmsconn.journal.postgres import MemberCount
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity
from kmsconn.transport.ports import offload_inline
from tests.fake_postgres import FakeServer, Loss
from tests.unit.journal.samples import ANSWER, BINDING, wall
from tests.unit.journal.test_journal_groups import adds

COMMIT = 7
"""Where the commit stands in a group of one move: begin, lock, tick, the count of commits, the move, the tick, the commit."""


async def test_a_commit_whose_outcome_is_not_known_is_told_while_nothing_else_is_applied() -> None:
    """As with a server whose log of commits has no room: it ends within one, and is away for minutes."""
    server, told, beats = FakeServer(), list[Event](), list[float]()
    db = Database(server.driver(), wall)
    db.open(BINDING)
    db.driver.member = MemberCount(server.join())  # type: ignore[attr-defined]
    async with trio.open_nursery() as nursery:
        journal = Journal(db, offload_inline)
        nursery.start_soon(journal.commit_groups)
        watch = JournalWatch(
            journal, wall, Board(told.append, trio.current_time), lambda: beats.append(trio.current_time())
        )
        try:
            rid = await journal.run(adds(1))
            server.losses, server.refusals = [Loss(len(server.asked) + COMMIT, after=True)], 10**6
            nursery.start_soon(journal.run, moves.answer, rid, ANSWER, 1000.0)
            await trio.sleep(0.1)
            nursery.start_soon(keep_looking, watch.look)
            await trio.sleep(2 * LOOKING)
            seen, server.refusals = told.copy(), 0
            await trio.sleep(2 * LOOKING)
        finally:
            server.refusals = 0
            nursery.cancel_scope.cancel()
            journal.close()
    (alert,) = seen
    assert isinstance(alert, AlertRaised)
    assert (alert.cause, alert.severity) == ("unwritable", Severity.CRITICAL)
    assert "not known whether it was written" in alert.text
    assert beats
    assert beats[0] < 2 * LOOKING
    assert isinstance(told[-1], AlertCleared)
