"""Every dependency gone for ten minutes in the middle of traffic, in every way of being gone; and strangers who cost nobody anything."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kmsconn.testing.faults import Ask, Grant, Outage
from kmsconn.testing.world import PlanStep, WorldReport, run_world
from tests.sampling import points_of

pytestmark = [pytest.mark.once, pytest.mark.long]

TEN_MINUTES = 600.0
BEGIN = 6.5
HOWS = ("refuse", "unreachable", "mute", "lost")
GONE = {
    "gateway": ("gateway",),
    "host chain": ("host",),
    "ethereum": ("ethereum",),
    "core": ("core0",),
    "one bucket": ("bucket0",),
    "all buckets": ("bucket0", "bucket1"),
    "everything": ("gateway", "host", "ethereum", "core0", "bucket0", "bucket1"),
}


def traffic() -> list[PlanStep]:
    """Requests before, during and after; the chain goes on for its users while the connector does not see it."""
    return [Ask(at, "any", 3) for at in (1.0, 5.0, 6.0, 7.0, 60.0, 300.0, 590.0, 606.0, 615.0)]


def gone(*dependencies: str, how: str) -> WorldReport:
    outages = [Outage(BEGIN, name, how, TEN_MINUTES) for name in dependencies]  # type: ignore[arg-type]
    return run_world([*traffic(), *outages], seed=1, block_time=2.0)


def cases() -> list[tuple[str, str]]:
    """Return who is gone in which way: usually one way each, another one in another turn; ``KMSCONN_POINTS=all`` tries all."""
    every = [(who, how) for who in GONE for how in HOWS]
    return [every[at - 1] for at in points_of(len(every), len(GONE))]


@pytest.mark.parametrize(("who", "how"), cases())
def test_what_is_gone_for_ten_minutes_costs_no_request(who: str, how: str) -> None:
    report = gone(*GONE[who], how=how)
    report.check()
    assert len(report.ground_truth.answered) == 27
    assert report.seconds > TEN_MINUTES


def test_while_one_of_two_buckets_is_gone_nobody_waits_for_it() -> None:
    """Of two coprocessors the other one answers, so the outage shows in no latency beyond a few blocks."""
    report = gone("bucket0", how="refuse")
    assert max(report.ground_truth.blocks.values()) <= 2


GOOD = [Ask(5.0 + 2 * n, form, 5) for n, form in enumerate(["public", "direct", "unified", "wallet"] * 5)]
DENIED = [
    Ask(1.5, "public", 350, granted=False),
    Ask(2.5, "direct", 350, granted=False),
    Ask(3.5, "unified", 300, granted=False),
]


def percentile(values: Sequence[int], share: float) -> int:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def test_a_thousand_denied_requests_slow_no_good_one_down() -> None:
    """They are more than all places of their pools together; a request that waits is deferred, so places are free."""
    alone = run_world(GOOD, seed=3)
    beside = run_world([*DENIED, *GOOD], seed=3, settle_time=10.0)
    alone.check()
    assert len(alone.ground_truth.blocks) == len(beside.ground_truth.blocks) == 100
    assert len(beside.ground_truth.open) == 1000
    for share in (0.5, 0.99):
        before, after = (percentile(list(r.ground_truth.blocks.values()), share) for r in (alone, beside))
        assert abs(after - before) <= 1, (
            f"p{share * 100:g}: {before} blocks alone, {after} beside denied ones"
        )


def test_a_request_that_was_denied_is_answered_once_the_right_is_there() -> None:
    run_world(
        [Ask(1.0, form, 2, granted=False) for form in ("public", "direct", "unified")] + [Grant(120.0)]
    ).check()
