"""Signals and announcements of a running connector."""

from __future__ import annotations

import gc
import io
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from kmsconn.config.description import LogFormat
from kmsconn.errors import (
    ConfigError,
    Fault,
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
from kmsconn.observe.logs import LineLog
from kmsconn.observe.status import Health
from kmsconn.observe.tally import EventTakers
from kmsconn.operate.commands import run
from kmsconn.operate.commands.command import LONGEST_LINE, crash_report, only, until_interrupted
from kmsconn.operate.commands.run import (
    PATIENCE,
    SHOWN,
    YOUNG_OBJECTS,
    announce_ready,
    calm_collector,
    forget_starts,
    heed_signals,
    until_drained,
)
from kmsconn.transport.waiting import Backoff


@attrs.define
class FakeConnector:
    """Remembers what was done to it."""

    done: list[str] = attrs.field(factory=list)
    ready: trio.Event = attrs.field(factory=trio.Event)

    def drain(self) -> None:
        self.done.append("drain")

    def hurry(self) -> None:
        self.done.append("hurry")

    async def wait_ready(self) -> None:
        await self.ready.wait()


async def received(*numbers: int) -> AsyncIterator[int]:
    for number in numbers:
        yield number
        await trio.lowlevel.checkpoint()


async def after(*numbers: int) -> tuple[list[str], list[str]]:
    connector: Any = FakeConnector()
    stream = io.StringIO()
    await heed_signals(received(*numbers), connector, LineLog(stream, "info", LogFormat.JSON))
    return connector.done, [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


async def test_the_first_signal_drains_and_a_second_of_either_kind_hurries() -> None:
    assert await after(signal.SIGTERM) == (["drain"], ["draining"])
    assert await after(signal.SIGINT, signal.SIGTERM) == (["drain", "hurry"], ["draining", "ending at once"])


async def test_ready_is_logged_once_it_is() -> None:
    connector: Any = FakeConnector()
    stream = io.StringIO()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(announce_ready, connector, LineLog(stream, "info", LogFormat.JSON))
        await wait_all_tasks_blocked()
        assert stream.getvalue() == ""
        connector.ready.set()
    assert json.loads(stream.getvalue())["event"] == "ready"


def test_cycles_are_looked_for_less_often() -> None:
    before = gc.get_threshold()
    try:
        calm_collector()
        assert gc.get_threshold() == (YOUNG_OBJECTS, *before[1:])
        assert gc.isenabled()
    finally:
        gc.set_threshold(*before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_cancels_the_work(number: signal.Signals) -> None:
    steps = []

    async def work() -> None:
        steps.append("begun")
        signal.raise_signal(number)
        await trio.sleep_forever()
        steps.append("never")

    await until_interrupted(work)
    assert steps == ["begun"]


async def test_without_a_signal_the_work_comes_to_its_end_and_handlers_are_put_back() -> None:
    before, steps = signal.getsignal(signal.SIGTERM), []

    async def work() -> None:
        await trio.sleep(1)
        steps.append("ended")

    await until_interrupted(work)
    assert steps == ["ended"]
    assert signal.getsignal(signal.SIGTERM) == before


async def test_an_error_of_the_work_comes_out() -> None:
    async def work() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("why")

    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="why")):
        await until_interrupted(work)


async def raise_deep(depth: int) -> None:
    if depth == 0:
        raise ValueError("the leaf")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raise_deep, depth - 1)


def crash(depth: int) -> BaseException:
    try:
        trio.run(raise_deep, depth)
    except BaseExceptionGroup as group:
        return group
    raise AssertionError


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as found:
        return found


def test_every_error_is_shown_and_alike_ones_once_with_their_number() -> None:
    leaves = [raised(ValueError(f"number {number}")) for number in range(20)]
    report = crash_report(ExceptionGroup("a", [ExceptionGroup("b", leaves), raised(KeyError("other"))]))
    assert "crashed: 21 errors" in report
    assert all(f"number {number}" in report for number in range(20))
    assert "KeyError: 'other'" in report
    report = crash_report(ExceptionGroup("a", [raised(ValueError("again")) for _ in range(3)]))
    assert report.count("ValueError: again") == 1
    assert "error 1, 3 times" in report


def test_a_cause_within_forty_groups_is_shown_with_its_place() -> None:
    """Python's own report says "max_group_depth is 10"; the tree of a connector is deeper than that."""
    try:
        raise KeyError("outcome") from crash(40)
    except KeyError as error:
        report = crash_report(error)
    assert "ValueError: the leaf" in report
    assert "in raise_deep" in report
    assert 'raise ValueError("the leaf")' in report
    assert "KeyError: 'outcome'" in report


def test_no_key_of_a_url_is_shown() -> None:
    url = "wss://user:hunter2@node.example:8443/v2/sesame?token=swordfish"
    report = crash_report(ExceptionGroup("a", [raised(OSError(f"cannot reach {url}: refused"))]))
    assert "cannot reach wss://node.example:8443: refused" in report
    assert not any(secret in report for secret in ("hunter2", "sesame", "swordfish"))


def test_a_line_is_cut() -> None:
    report = crash_report(raised(ValueError("x" * 1_000_000)))
    assert max(map(len, report.splitlines())) == LONGEST_LINE


ONE, TWO = StartRefused("a"), StartRefused("b")
FOREIGN = ConfigError((Fault("k.toml", "is foreign"),))


@pytest.mark.parametrize(
    ("kind", "raised", "found"),
    [
        (StartRefused, ExceptionGroup("", [ONE, ExceptionGroup("", [TWO])]), (ONE, TWO)),
        (ConfigError, ExceptionGroup("", [FOREIGN]), (FOREIGN,)),
        (StartRefused, ExceptionGroup("", [ONE, ValueError("a crash")]), ()),
        (StartRefused, ExceptionGroup("", [ValueError("a crash")]), ()),
    ],
)
def test_a_group_of_refusals_alone_is_a_refusal(
    kind: type[Exception], raised: ExceptionGroup[Exception], found: tuple[Exception, ...]
) -> None:
    assert only(kind, raised) == found


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
        EventTakers(self.health.takes).on_event(event)


@pytest.mark.parametrize(
    ("end", "cause", "text"),
    [
        (ExceptionGroup("", [ExceptionGroup("", [LeaseLost("taken over")])]), "lease-lost", "taken over"),
        (ExceptionGroup("", [LeaseLost("taken over"), JournalFailed("closed")]), "lease-lost", "taken over"),
        (JournalWentBack("lost commits"), "journal-went-back", "lost commits"),
        (ExceptionGroup("", [OutcomeUnknown("nobody can tell"), JournalFailed("ended")]), "unwritable", "nobody can tell"),
    ],
    ids=["its lease is lost", "the journal fails beside it", "the database went back", "the outcome is unknown"],
)  # fmt: skip
async def test_a_connector_that_may_go_on_begins_anew_and_says_why(
    end: Exception, cause: str, text: str
) -> None:
    lives = Lives(end)
    assert await lives.run() == "drained"
    assert lives.begun[1] - lives.begun[0] < 2
    assert text in lives.log.lines[0]
    [alert] = lives.events
    assert isinstance(alert, AlertRaised)
    assert (alert.cause, text in alert.text) == (cause, True)
    assert (alert.dependency == "journal") == (cause == "unwritable")


async def test_a_crash_a_refused_first_start_and_a_journal_too_new_end_it() -> None:
    with pytest.RaisesGroup(LeaseLost, ZeroDivisionError):
        await Lives(ExceptionGroup("", [LeaseLost("taken over"), ZeroDivisionError()])).run()
    with pytest.raises(StartRefused):
        await Lives(StartRefused("no database")).run()
    lives = Lives(LeaseLost("taken over"), JournalTooNew("written by a newer version"))
    with pytest.raises(JournalTooNew):
        await lives.run()
    assert len(lives.begun) == 2, "another start would find the same"


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
