"""What processes over one journal tell of each other and of the journal."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from kmsconn.connector.alerting import LOOKING, JournalWatch
from kmsconn.connector.members import LeaseClock, Member
from kmsconn.connector.upkeep import keep_looking
from kmsconn.journal.database import Database
from kmsconn.journal.journal import Journal, until_kept
from kmsconn.journal.members import Gathering, MemberRow
from kmsconn.model.alerts import Board
from kmsconn.model.causes import CAUSES
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity
from kmsconn.requests.membership import DIFFER, MISSING, SENDS, tell_different_settings, tell_missing_roles
from kmsconn.transport.ports import offload_inline
from tests.fake_postgres import FakeServer
from tests.unit.journal.samples import BINDING, keep, wall
from tests.unit.journal.test_journal_groups import adds
from tests.unit.model.test_alerts import Wall


def gathering(*roles: str) -> Gathering:
    """Return members with these roles, each several ones in a string."""
    rows = [
        MemberRow(number, f"{number}@m", frozenset(of.split()), 0.0, 0.5) for number, of in enumerate(roles)
    ]
    return Gathering(True, tuple(rows))


GRACE = CAUSES[MISSING].after


class Roles(Wall):
    """A board whose clock is that of the last look."""

    def note(self, found: Gathering, now: float) -> None:
        self.now = now
        tell_missing_roles(self.board, found)


@pytest.mark.parametrize("role", ["hear", "work", "send"])
def test_a_role_that_nobody_has_for_long_is_told_with_its_name_and_a_remedy(role: str) -> None:
    roles = Roles()
    others = " ".join({"hear", "work", "send"} - {role})
    for now in (0.0, GRACE, GRACE + 1):
        roles.note(gathering(others), now)
    [alert] = roles.seen
    assert isinstance(alert, AlertRaised)
    assert (alert.dependency, alert.cause, alert.severity) == (f"role {role}", MISSING, Severity.CRITICAL)
    assert f"has the role {role}" in alert.text
    assert f"start a process with {role}" in alert.remedy


def test_a_restart_is_not_told_and_what_several_have_together_is_enough() -> None:
    roles = Roles()
    roles.note(gathering("hear send", "work"), 0.0)
    roles.note(gathering("hear send"), 100.0)
    roles.note(gathering("hear send"), 100.0 + GRACE - 1)
    roles.note(gathering("hear send", "work"), 100.0 + GRACE)
    roles.note(gathering("hear send"), 101.0 + GRACE)
    for now in (102.0 + GRACE, 102.0 + 2 * GRACE):
        roles.note(gathering("hear", "work", "send"), now)
    assert roles.seen == []


def test_the_alert_is_over_when_somebody_has_the_role() -> None:
    roles = Roles()
    for now in (0.0, GRACE):
        roles.note(gathering("work"), now)
    assert [alert.dependency for alert in roles.seen if isinstance(alert, AlertRaised)] == [
        "role hear",
        "role send",
    ]
    roles.note(gathering("work", "send"), GRACE + 1)
    assert roles.seen[2:] == [AlertCleared("role send", MISSING)]


def gathering_settings(*settings: dict[str, str]) -> Gathering:
    """Return members with these settings, all of one name."""
    return Gathering(
        True,
        tuple(MemberRow(number, "k@m", frozenset(), 0.0, 0.5, of) for number, of in enumerate(settings, 1)),
    )


def test_a_difference_is_told_once_with_both_processes_and_a_remedy_until_it_is_gone() -> None:
    seen: list[Event] = []
    board = Board(seen.append, lambda: 0.0)
    tell_different_settings(board, gathering_settings({"lease": "5s"}, {}))
    assert seen == [], "who says nothing differs from nobody"
    first, other = {"lease": "5s", "mode": "active"}, {"lease": "9s", "mode": "shadow"}
    for _ in range(3):
        tell_different_settings(board, gathering_settings(first, other))
    alerts = {one.dependency: one for one in seen if isinstance(one, AlertRaised)}
    assert (len(seen), sorted(alerts)) == (2, ["lease", "mode"])
    alert = alerts["lease"]
    assert (alert.cause, alert.severity) == (DIFFER, Severity.WARNING)
    assert "5s at k@m (member 1); 9s at k@m (member 2)" in alert.text
    assert "set lease alike" in alert.remedy
    tell_different_settings(board, gathering_settings(first, {**other, "lease": "5s"}))
    assert seen[2:] == [AlertCleared("lease", DIFFER)]


async def test_a_commit_that_waits_for_a_standby_is_told_until_it_does_not() -> None:
    """Before the connection is given up for it, which fails in other words; those are told once no standby is waited for."""
    server, told = FakeServer(), list[Event]()
    db = Database(server.driver(), wall)
    db.open(BINDING)
    async with trio.open_nursery() as nursery:
        journal = Journal(db, offload_inline)
        nursery.start_soon(journal.commit_groups)
        watch = JournalWatch(journal, wall, Board(told.append, trio.current_time))
        try:
            await watch.look()
            server.unconfirmed.append(("replica_7", 0))
            journal.failures.unwritten = "the connection is lost"
            await watch.look()
            server.unconfirmed.clear()
            journal.failures.unwritten = ""
            await watch.look()
        finally:
            journal.close()
    raised, cleared = told
    assert isinstance(raised, AlertRaised)
    assert (raised.cause, raised.severity) == ("unwritable", Severity.CRITICAL)
    assert "synchronous_standby_names is replica_7, and 0 standbys are connected" in raised.text
    assert "start the standby" in raised.remedy
    assert cleared == AlertCleared("journal", "unwritable")


async def test_a_server_that_is_away_is_told_until_it_is_back() -> None:
    """As one whose log of commits has no room: it ends, and is away for minutes."""
    server, told, beats = FakeServer(), list[Event](), list[float]()
    db = Database(server.driver(), wall)
    db.open(BINDING)
    db.driver.join(server.join())  # type: ignore[union-attr]
    async with trio.open_nursery() as nursery:
        journal = Journal(db, offload_inline)
        nursery.start_soon(journal.commit_groups)
        watch = JournalWatch(
            journal, wall, Board(told.append, trio.current_time), lambda: beats.append(trio.current_time())
        )
        try:
            rid = await journal.run(adds(1))
            server.refusals = 10**6
            server.sessions[-1].lose()
            nursery.start_soon(until_kept, partial(journal.run, keep, rid))
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
    assert "connection refused" in alert.text
    assert beats
    assert beats[0] < 2 * LOOKING
    assert isinstance(told[-1], AlertCleared)


async def test_rows_of_who_is_gone_are_looked_for_and_answers_only_where_they_are_sent() -> None:
    heard: list[object] = []

    async def ask(_question: object) -> int:
        return 7

    journal, claiming = SimpleNamespace(note_tick=heard.append), SimpleNamespace(ask=ask)
    clock, board = LeaseClock(5.0, 0.0), Board(heard.append, trio.current_time)
    ports: Any = {"journal": journal, "side": None, "claiming": claiming}
    member = Member(**ports, token=1, clock=clock, board=board, shards=1, ours=int)
    await member.hear({"due": heard.append}, frozenset({"lease", "answered 5"}))
    member._held.add(f"{SENDS}5")
    await member.hear({}, frozenset({"answered 5"}))
    assert heard == ["", 7]
