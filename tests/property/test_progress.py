"""The rule of progress, for any history, against the rule as it is written: who is counted, which lane has stopped, and why."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import attrs
import hypothesis.strategies as st
from hypothesis import given

from kmsconn.model.alerts import PATIENCE, SEVERAL, STANDSTILL, WINDOW, Lane, Progress, Reason

LANES = [
    Lane("public_decryption", "core[0]"),
    Lane("public_decryption", "core[1]"),
    Lane("keygen", several=1, patience=0.0),
]
REASONS = [
    Reason("core[0]", "calls-fail", "x"),
    Reason("checks", "calls-fail", "y"),
    Reason("core[0]", "too-slow", "z", after=300.0),
]
STEPS = 3
Step = tuple[Literal["pass", "fail", "go on", "end"], int, int, int, float]

steps: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(
        st.sampled_from(("fail", "fail", "fail", "fail", "pass", "go on", "end")),
        st.integers(0, 14),
        st.integers(0, len(REASONS) - 1),
        st.integers(0, STEPS - 1),
        st.sampled_from((0.0, 0.0, 0.0, 1.0, PATIENCE, 100.0, WINDOW)),
    ),
    min_size=1,
    max_size=80,
)


@attrs.define
class Held:
    """A piece of work as the rule speaks of it."""

    at: int
    since: float
    last: float
    step: int
    reason: Reason


def lane_of(rid: int) -> Lane:
    return LANES[rid % len(LANES)]


def play(history: list[Step]) -> tuple[Progress, float, dict[int, Held], dict[Lane, int]]:
    """Play a history; return the progress beside what the rule needs: who is held up, and when each lane was passed last."""
    progress, now = Progress(), 0.0
    held: dict[int, Held] = {}
    passed = dict.fromkeys(LANES, -1)
    for at, (what, rid, reason, step, seconds) in enumerate(history):
        now += seconds
        progress.holdups(now)
        held = {one: it for one, it in held.items() if now - it.last <= WINDOW}
        if what == "fail":
            progress.hold(lane_of(rid), rid, REASONS[reason], now=now, step=step)
            first = held.get(rid, Held(at, now, now, step, REASONS[reason]))
            held[rid] = Held(first.at, first.since, now, max(first.step, step), REASONS[reason])
        elif what == "go on":
            progress.went_on(rid, step)
            if rid in held and held[rid].step <= step:
                del held[rid]
        else:
            held.pop(rid, None)
            progress.free(rid) if what == "end" else progress.passed(lane_of(rid), rid)
            if what == "pass":
                passed[lane_of(rid)] = at
    return progress, now, held, passed


@given(steps)
def test_the_counts_and_what_has_stopped_are_those_of_the_rule(history: list[Step]) -> None:
    progress, now, held, passed = play(history)
    counts = Counter(
        (one.reason.dependency, one.reason.cause)
        for one in held.values()
        if now - one.since >= one.reason.after
    )
    found = {(one.reason.dependency, one.reason.cause): one for one in progress.holdups(now)}
    assert {key: one.count for key, one in found.items()} == counts
    for lane in LANES:
        late = [
            one
            for rid, one in held.items()
            if lane_of(rid) == lane
            and one.at > passed[lane]
            and now - one.since >= max(lane.patience, one.reason.after)
        ]
        blamed = Counter((one.reason.dependency, one.reason.cause) for one in late)
        others = any(lane.what in LANES[at].what for at in range(len(LANES)) if LANES[at] != lane)
        told = {key for key, one in found.items() if lane.what in one.stopped}
        if len(late) >= lane.several:
            assert max(blamed.values()) in {blamed[key] for key in told}
        elif not others:
            assert not told


@given(steps)
def test_once_all_are_free_nothing_is_left(history: list[Step]) -> None:
    progress, now, _, _ = play(history)
    for rid in range(15):
        progress.free(rid)
    assert progress.holdups(now) == ()
    assert list(progress) == []


def test_the_third_that_is_held_up_for_some_seconds_stops_its_lane_and_a_pass_ends_that() -> None:
    progress, lane = Progress(), LANES[0]
    for rid in range(SEVERAL):
        progress.hold(lane, rid, REASONS[0], now=float(rid))
    assert [one.stopped for one in progress.holdups(STANDSTILL + 1)] == [()]
    assert [one.stopped for one in progress.holdups(STANDSTILL + 2)] == [("public_decryption",)]
    progress.passed(LANES[1], 9)
    assert [one.stopped for one in progress.holdups(STANDSTILL + 2)] == [("public_decryption",)]
    progress.passed(lane, 8)
    assert [(one.count, one.stopped) for one in progress.holdups(STANDSTILL + 2)] == [(SEVERAL, ())]


def test_who_changes_its_lane_leaves_the_other_one() -> None:
    progress = Progress()
    progress.hold(LANES[0], 1, REASONS[0], now=0.0)
    progress.hold(LANES[2], 1, REASONS[1], now=1.0)
    [found] = progress.holdups(1.0)
    assert (found.reason, found.count, found.stopped) == (REASONS[1], 1, ("keygen",))
