"""The last minutes in numbers."""

from __future__ import annotations

import pytest

from kmsconn.ethereum.addresses import Address
from kmsconn.model import events
from kmsconn.model.requests import Kind
from kmsconn.observe.recent import LATENCY_WINDOW, SPAN_SECONDS, SPANS, RecentActivity, Throughput

PUBLIC = Kind.PUBLIC_DECRYPTION
CONTRACT = Address(bytes(19) + b"\x05")


def test_quantiles_are_those_of_what_was_observed() -> None:
    recent = RecentActivity(lambda: 0.0)
    for number in range(100):
        recent.on_event(events.StageFinished(1, PUBLIC, "check", float(number)))
    [(name, latency)] = recent.latencies()
    assert (name, latency.count, latency.p50, latency.p95, latency.p99) == ("check", 100, 50.0, 95.0, 99.0)


def test_what_is_older_than_the_window_is_not_told() -> None:
    clock = [0.0]
    recent = RecentActivity(lambda: clock[0])
    recent.on_event(events.StageFinished(1, PUBLIC, "check", 1.0))
    clock[0] = LATENCY_WINDOW + 1
    assert list(recent.latencies()) == []


def test_a_reply_that_the_contract_had_already_is_no_latency_and_no_throughput() -> None:
    recent = RecentActivity(lambda: 100.0)
    recent.on_event(events.ReplyIncluded(1, PUBLIC, 60, 9.0, found=True))
    assert list(recent.latencies()) == []
    assert sum(recent.included.series(200.0)) == 0


def test_throughput_is_counted_in_whole_spans() -> None:
    throughput = Throughput()
    for now in (100.0, 101.0, 100.0 + SPAN_SECONDS):
        throughput.add(now)
    series = throughput.series(100.0 + 2 * SPAN_SECONDS)
    assert (len(series), series[-3:]) == (SPANS, [0, 2, 1])


@pytest.mark.parametrize(("block", "head", "lag"), [(56, 55, 0), (50, 55, 6), (60, 55, 0)])
def test_the_lag_is_the_blocks_that_are_not_read(block: int, head: int, lag: int) -> None:
    recent = RecentActivity(lambda: 0.0)
    recent.on_event(events.CursorMoved(10901, CONTRACT, block, head))
    [position] = recent.positions.values()
    assert position.lag == lag
