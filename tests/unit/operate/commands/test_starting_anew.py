"""Starting anew: after a lost lease at once, after a refusal for a while, after anything else not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from kmsconn.errors import (
    JournalFailed,
    JournalTooNew,
    JournalUnreachable,
    JournalWentBack,
    LeaseLost,
    OutcomeUnknown,
    StartRefused,
)
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity
from kmsconn.observe.health import Health
from kmsconn.operate.commands import run
from kmsconn.operate.commands.run import PATIENCE, SHOWN, forget_starts, until_drained
from kmsconn.transport.waiting import Backoff


class Log:
    """Takes the lines that are logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append(f"{event} {fields}")


class Lives:
    """A connector whose lives end as they are told, one after the other; the last one drains."""

    def __init__(self, *ends: BaseException) -> None:
        self.ends = list(ends)
        self.begun: list[float] = []
        self.events: list[Event] = []
        self.health = Health()
        self.log = Log()
        self.signal = trio.Event()

    async def once(self) -> str:
        self.begun.append(trio.current_time())
        await trio.sleep(1)
        if self.ends:
            raise self.ends.pop(0)
        return "drained"

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        await self.signal.wait()
        return 15

    async def run(self) -> str | None:
        log: Any = self.log
        self.board = Board(self.hear, trio.current_time)
        return await until_drained(self.once, self, self.board, log, lambda: self.health.alerts)

    def hear(self, event: Event) -> None:
        self.events.append(event)
        self.health.on_event(event)


async def test_a_connector_that_lost_its_lease_begins_anew() -> None:
    lives = Lives(ExceptionGroup("", [ExceptionGroup("", [LeaseLost("taken over")])]))
    assert await lives.run() == "drained"
    assert lives.begun[1] - lives.begun[0] < 2
    assert "taken over" in lives.log.lines[0]
    [alert] = lives.events
    assert isinstance(alert, AlertRaised)
    assert alert.cause == "lease-lost"


async def test_a_database_that_went_back_has_a_cause_of_its_own() -> None:
    lives = Lives(JournalWentBack("lost commits"))
    await lives.run()
    assert [alert.cause for alert in lives.events if isinstance(alert, AlertRaised)] == ["journal-went-back"]


async def test_what_fails_with_the_journal_beside_it_changes_nothing() -> None:
    lives = Lives(ExceptionGroup("", [LeaseLost("taken over"), JournalFailed("closed")]))
    assert await lives.run() == "drained"


async def test_a_crash_is_none_of_its_business() -> None:
    with pytest.RaisesGroup(LeaseLost, ZeroDivisionError):
        await Lives(ExceptionGroup("", [LeaseLost("taken over"), ZeroDivisionError()])).run()


async def test_a_refused_first_start_is_not_repeated() -> None:
    with pytest.raises(StartRefused):
        await Lives(StartRefused("no database")).run()


async def test_a_refused_start_after_a_lost_lease_is_repeated_for_a_while() -> None:
    lives = Lives(LeaseLost("taken over"), *[StartRefused("no database") for _ in range(5)])
    assert await lives.run() == "drained"
    lives = Lives(LeaseLost("taken over"), *[StartRefused("no database") for _ in range(500)])
    with pytest.raises(StartRefused):
        await lives.run()
    assert PATIENCE - 10 < lives.begun[-1] - lives.begun[0] < PATIENCE + 10


async def test_a_journal_that_does_not_answer_is_waited_for_at_the_first_start_too() -> None:
    lives = Lives(
        *[ExceptionGroup("", [JournalUnreachable("the server does not answer")]) for _ in range(100)]
    )
    assert await lives.run() == "drained"
    assert lives.begun[-1] - lives.begun[0] > PATIENCE
    alerts = [event for event in lives.events if isinstance(event, AlertRaised)]
    assert {(alert.dependency, alert.cause, alert.severity) for alert in alerts} == {
        ("journal", "unwritable", Severity.CRITICAL)
    }
    assert "waiting for the journal" in lives.log.lines[0]


async def test_a_commit_whose_outcome_is_unknown_begins_anew_and_says_so_of_the_journal() -> None:
    lives = Lives(ExceptionGroup("", [OutcomeUnknown("nobody can tell"), JournalFailed("ended")]))
    assert await lives.run() == "drained"
    [alert] = lives.events
    assert isinstance(alert, AlertRaised)
    assert (alert.dependency, alert.cause, alert.text) == ("journal", "unwritable", "nobody can tell")


async def test_a_signal_between_two_lives_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "BETWEEN_STARTS", Backoff(first=50.0, cap=50.0))
    lives = Lives(LeaseLost("taken over"))
    lives.signal.set()
    assert await lives.run() is None
    assert len(lives.begun) == 1


async def test_the_alerts_of_a_connector_end_with_it() -> None:
    """The next one has not raised them and would never clear them; what is told of the start itself stays."""
    lives = Lives(LeaseLost("taken over"), LeaseLost("again"))
    lives.hear(AlertRaised("membership", "lease-late", "silent", Severity.WARNING))
    await lives.run()
    assert [alert.cause for alert in lives.health.alerts] == ["lease-lost"]
    assert lives.events.count(AlertCleared("membership", "lease-late")) == 1
    assert AlertCleared("membership", "lease-lost") not in lives.events


async def test_the_alert_is_cleared_when_it_was_shown_for_long_enough() -> None:
    lives = Lives(LeaseLost("taken over"))
    await lives.run()
    assert not any(isinstance(event, AlertCleared) for event in lives.events)
    began = trio.current_time()
    await forget_starts(lives.board)
    assert trio.current_time() - began == SHOWN
    assert isinstance(lives.events[-1], AlertCleared)


async def test_a_journal_that_has_become_too_new_ends_it_at_once() -> None:
    """Another start would find the same."""
    lives = Lives(LeaseLost("taken over"), JournalTooNew("written by a newer version"))
    with pytest.raises(JournalTooNew):
        await lives.run()
    assert len(lives.begun) == 2
