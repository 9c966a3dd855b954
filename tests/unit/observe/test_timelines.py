"""What is remembered of the newest requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from kmsconn.ethereum.addresses import Address
from kmsconn.model import events
from kmsconn.model.events import AlertCleared, Event, RequestsMoved
from kmsconn.model.life import State
from kmsconn.model.requests import NO_BLOCK, Kind
from kmsconn.observe.tally import EventTakers, EventTally, Takes
from kmsconn.observe.timelines import (
    DETAIL_CHARACTERS,
    EVENTS_KEPT,
    LATENCY_WINDOW,
    OPEN_KEPT,
    REQUESTS_KEPT,
    SILENT,
    SPAN_SECONDS,
    SPANS,
    Throughput,
    Timelines,
)

PUBLIC = Kind.PUBLIC_DECRYPTION


def recorded(rid: int) -> events.RequestRecorded:
    return events.RequestRecorded(rid, PUBLIC, (1 << 248) | rid, 10901, 55, b"\x03" * 32, 2)


def deferred(reason: str = "denied", rid: int = 1) -> events.RequestDeferred:
    return events.RequestDeferred(rid, PUBLIC, "check", reason, 2.5)


WAY = (
    recorded(1),
    events.StageFailed(1, PUBLIC, "check", "denied"),
    deferred(),
    events.StageFinished(1, PUBLIC, "check", 0.03),
    events.StageFinished(1, PUBLIC, "gather", 0.04),
    events.StageFinished(1, PUBLIC, "submit", 0.05),
    events.StageFinished(1, PUBLIC, "answer", 0.6),
    events.AnswerKept(1, PUBLIC, 0.8),
    events.ReplySigned(1, PUBLIC, 9, b"\x01" * 32),
    events.ReplySent(1, PUBLIC, 9, 0.02),
    events.ReplyIncluded(1, PUBLIC, 60, 1.4),
    events.ReplyFinalized(1, PUBLIC),
)


def played(told: Iterable[events.Event], step: float = 1 / 64) -> Timelines:
    clock = iter(range(1_000_000))
    return told_to(Timelines(lambda: next(clock) * step), *told)


def told_to(timelines: Timelines, *told: events.Event) -> Timelines:
    take = EventTakers(timelines.takes).on_event
    for event in told:
        take(event)
    return timelines


def stage_after(*told: events.Event) -> str:
    [timeline] = played(told).newest(9)
    return timeline.stage


def test_the_stage_is_the_one_that_a_request_is_in() -> None:
    assert [stage_after(*WAY[: count + 1]) for count in range(len(WAY))] == [
        "check", "check", "deferred", "gather", "submit", "answer", "answer",
        "answered", "signed", "sent", "included", "finalized",
    ]  # fmt: skip


def test_a_returned_reply_is_where_it_went_back_to_and_a_closed_request_in_its_end() -> None:
    assert stage_after(*WAY[:10], events.ReplyReturned(1, PUBLIC, State.ANSWERED, "status 0")) == "answered"
    assert stage_after(WAY[0], events.RequestClosed(1, PUBLIC, State.REJECTED, "malformed")) == "rejected"


def test_what_a_deferred_request_waits_for_is_told_shortly_until_it_goes_on() -> None:
    [timeline] = played([recorded(1), deferred("denied\nby the ACL")]).newest(9)
    assert timeline.waits_for == "check: denied by the ACL"
    timeline.told.append((9.0, deferred("long " * 1000)))
    assert len(timeline.waits_for) == DETAIL_CHARACTERS
    timeline.told.append((9.0, WAY[3]))
    assert (timeline.stage, timeline.waits_for, timeline.changed) == ("gather", "", 9.0)


def test_the_events_of_one_request_are_bounded() -> None:
    [timeline] = played([WAY[3]] * 2 * EVENTS_KEPT).newest(9)
    assert len(timeline.told) == EVENTS_KEPT


def test_requests_that_ended_take_no_place_of_open_ones_nor_does_their_finality_bring_them_back() -> None:
    included = [
        event
        for rid in range(1, 2 * REQUESTS_KEPT + 1)
        for event in (recorded(rid), events.ReplyIncluded(rid, PUBLIC, 60, 1.4))
    ]
    final = [events.ReplyFinalized(rid, PUBLIC) for rid in range(1, 2 * REQUESTS_KEPT + 1)]
    timelines = played([recorded(0), *included, *final])
    assert len(timelines) == 1 + REQUESTS_KEPT
    assert [one.rid for one in timelines.oldest_unreplied(9)] == [0]
    assert {one.stage for one in timelines.newest(REQUESTS_KEPT)} == {"finalized"}
    assert min(one.rid for one in timelines.newest(REQUESTS_KEPT)) == REQUESTS_KEPT + 1


def test_of_too_many_open_requests_the_oldest_is_forgotten() -> None:
    timelines = played([recorded(rid) for rid in range(OPEN_KEPT + 1)])
    assert len(timelines) == OPEN_KEPT
    assert [one.rid for one in timelines.oldest_unreplied(1)] == [1]


def test_a_reply_that_goes_back_opens_its_request_again() -> None:
    timelines = played([*WAY[:11], events.ReplyReturned(1, PUBLIC, State.ANSWERED, "its block is gone")])
    assert [one.rid for one in timelines.oldest_unreplied(9)] == [1]
    assert len(timelines) == 1


def test_who_answers_a_broadcast_later_than_the_block_came_opens_no_request() -> None:
    timelines = played([*WAY[:9], WAY[10], WAY[9]])
    assert (timelines.oldest_unreplied(9), timelines.newest(1)[0].stage) == ([], "included")


def test_what_is_final_has_ended_though_nobody_saw_it_included() -> None:
    timelines = played([*WAY[:8], WAY[11]])
    assert (timelines.oldest_unreplied(9), timelines.newest(1)[0].stage) == ([], "finalized")


@pytest.mark.parametrize(("step", "shown"), [(SILENT / 7, [1, 2, 4]), (SILENT / 6, [2, 4])])
def test_what_is_silent_while_others_end_is_gone(step: float, shown: list[int]) -> None:
    ended = [recorded(3), events.RequestClosed(3, PUBLIC, State.EXPIRED, "late")]
    timelines = played([deferred(rid=1), deferred(rid=2), *ended, deferred(rid=4)], step)
    assert [one.rid for one in timelines.oldest_unreplied(9)] == shown


def test_a_process_that_does_not_send_knows_nothing_of_replies() -> None:
    told = [WAY[7], events.ReplySigned(2, PUBLIC, 9, b""), events.ReplySent(3, PUBLIC, 9, 0.02), recorded(4)]
    timelines = played(told)
    assert [one.rid for one in timelines.oldest_unreplied(9)] == [1, 2, 3, 4]
    assert [one.rid for one in timelines.oldest_unreplied(9, sends=False)] == [4]


def test_the_newest_are_those_recorded_last() -> None:
    timelines = played([recorded(1), recorded(2), recorded(3), deferred(rid=1)])
    assert [one.rid for one in timelines.newest(2)] == [3, 2]


def test_the_oldest_unreplied_ones_have_no_reply_on_the_chain() -> None:
    timelines = played(
        [*WAY[:11], recorded(2), recorded(3), events.RequestClosed(2, PUBLIC, State.EXPIRED, "late")]
    )
    assert [one.rid for one in timelines.oldest_unreplied(9)] == [3]


def test_events_about_no_single_request_change_nothing() -> None:
    assert len(played([events.AlertCleared("gateway", "unreachable")])) == 0


def test_a_request_over_http_ends_done() -> None:
    kind = Kind.HTTP_PUBLIC_DECRYPTION
    told = (
        events.RequestRecorded(1, kind, 7, 10901, NO_BLOCK, b"", 0),
        events.AnswerKept(1, kind, 0.8),
        events.RequestClosed(1, kind, State.DONE, "delivered", "delivered"),
    )
    [timeline] = played(told).newest(9)
    assert timeline.stage == "done"


CONTRACT = Address(bytes(19) + b"\x05")


def test_quantiles_are_those_of_what_was_observed() -> None:
    told = [events.StageFinished(number, PUBLIC, "check", float(number)) for number in range(100)]
    [(name, latency)] = told_to(Timelines(lambda: 0.0), *told).latencies()
    assert (name, latency.count, latency.p50, latency.p95, latency.p99) == ("check", 100, 50.0, 95.0, 99.0)


def test_the_latencies_of_a_way_are_told_in_its_order() -> None:
    found = dict(told_to(Timelines(lambda: 0.0), *WAY).latencies())
    assert {name: latency.p50 for name, latency in found.items()} == {
        "check": 0.03, "gather": 0.04, "submit": 0.05, "answer": 0.6,
        "recorded to answered": 0.8, "recorded to included": 1.4,
    }  # fmt: skip


def test_what_is_older_than_the_window_is_not_told() -> None:
    clock = [0.0]
    timelines = told_to(Timelines(lambda: clock[0]), events.StageFinished(1, PUBLIC, "check", 1.0))
    clock[0] = LATENCY_WINDOW + 1
    assert list(timelines.latencies()) == []


def test_what_is_recorded_and_included_is_throughput_unless_the_contract_had_it_already() -> None:
    timelines = told_to(Timelines(lambda: 100.0), *WAY)
    assert (sum(timelines.recorded.series(200.0)), sum(timelines.included.series(200.0))) == (1, 1)
    timelines = told_to(Timelines(lambda: 100.0), events.ReplyIncluded(1, PUBLIC, 60, 9.0, found=True))
    assert list(timelines.latencies()) == []
    assert sum(timelines.included.series(200.0)) == 0


def test_throughput_is_counted_in_whole_spans() -> None:
    throughput = Throughput()
    for now in (100.0, 101.0, 100.0 + SPAN_SECONDS):
        throughput.add(now)
    series = throughput.series(100.0 + 2 * SPAN_SECONDS)
    assert (len(series), series[-3:]) == (SPANS, [0, 2, 1])


@pytest.mark.parametrize(("block", "head", "lag"), [(56, 55, 0), (50, 55, 6), (60, 55, 0)])
def test_the_lag_is_the_blocks_that_are_not_read(block: int, head: int, lag: int) -> None:
    tally = EventTally()
    EventTakers(tally.takes).on_event(events.CursorMoved(10901, CONTRACT, block, head))
    [position] = tally.read.values()
    assert position.lag == lag


CLEARED, MOVED = AlertCleared("gateway", "logs"), RequestsMoved(1, 2, 3, 4)


def recording(name: str, into: list[Any], *kinds: type[Event]) -> Takes:
    return {kind: lambda event: into.append((name, event)) for kind in kinds}


def test_several_take_an_event_in_their_order_and_others_change_nothing() -> None:
    taken: list[Any] = []
    takers = EventTakers(
        recording("first", taken, AlertCleared, RequestsMoved), recording("second", taken, AlertCleared)
    )
    takers.on_event(MOVED)
    takers.on_event(CLEARED)
    takers.on_event(recorded(1))
    assert taken == [("first", MOVED), ("first", CLEARED), ("second", CLEARED)]
