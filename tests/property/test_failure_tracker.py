"""The laws of the failure tracker, for any history: a kind is blocked where nobody passes, and the count is who waits."""

from __future__ import annotations

from typing import Literal

import hypothesis.strategies as st
from hypothesis import given

from kmsconn.app.failure_tracker import SEVERAL, Failure, FailureTracker, Gate

GATES = [Gate(core, "core", "answer", kind) for core in ("core[0]", "core[1]") for kind in ("public", "user")]
CAUSES = ("wrong-signer", "internal-error")
Step = tuple[Literal["pass", "fail", "end", "answer"], int, Gate, str]

steps: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(
        st.sampled_from(("pass", "fail", "fail", "fail", "end", "answer")),
        st.integers(0, 8),
        st.sampled_from(GATES),
        st.sampled_from(CAUSES),
    ),
    max_size=60,
)


def play(failures: FailureTracker, step: Step) -> None:
    what, rid, gate, cause = step
    match what:
        case "pass":
            failures.passed(gate, rid)
        case "end":
            failures.ended(rid)
        case "answer":
            failures.answered("core", "answer", rid)
        case "fail":
            failures.failed(gate, rid, Failure(cause, cause), 0.0)


@given(steps)
def test_a_kind_is_blocked_only_where_nobody_of_the_family_passed_since(history: list[Step]) -> None:
    """Blocked: at least so many distinct requests failed alike after the last pass of that kind."""
    failures = FailureTracker()
    for step in history:
        play(failures, step)
    for verdict in failures.verdicts(0.0):
        for kind in verdict.blocked:
            last = max(
                (at for at, one in enumerate(history) if one[0] == "pass" and one[2].kind == kind), default=-1
            )
            failed = {
                rid
                for what, rid, gate, cause in history[last + 1 :]
                if what == "fail"
                and (gate.dependency, gate.kind, cause) == (verdict.dependency, kind, verdict.cause)
            }
            assert len(failed) >= SEVERAL


@given(steps)
def test_the_count_is_the_requests_whose_last_word_at_a_gate_was_that_failure(history: list[Step]) -> None:
    failures, last = FailureTracker(), dict[tuple[int, Gate], str]()
    for step in history:
        play(failures, step)
        what, rid, gate, cause = step
        if what == "fail":
            last[rid, gate] = cause
        else:
            for key in [key for key in last if key[0] == rid]:
                del last[key]
    expected = {
        (dependency, cause): {
            rid for (rid, gate), said in last.items() if (gate.dependency, said) == (dependency, cause)
        }
        for dependency in ("core[0]", "core[1]")
        for cause in CAUSES
    }
    found = {(one.dependency, one.cause): one.count for one in failures.verdicts(0.0)}
    assert found == {key: len(rids) for key, rids in expected.items() if rids}


@given(steps)
def test_once_all_have_passed_nothing_is_left(history: list[Step]) -> None:
    failures = FailureTracker()
    for step in history:
        play(failures, step)
    for rid in range(9):
        failures.passed(GATES[0], rid)
    assert failures.verdicts(0.0) == ()
    assert failures._gates == {}
