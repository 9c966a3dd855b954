"""Which dependency holds up which kinds, and how many requests wait for it."""

from __future__ import annotations

import attrs
import pytest

from kmsconn.app.failure_tracker import SEVERAL, TRACKED, WINDOW, Failure, FailureTracker, Gate

GATE = Gate("core[0]", "core", "answer", "public_decryption")
SIGNER = Failure("wrong-signer", "signed by 0xab", "look")


def of(failures: FailureTracker, now: float = 0.0) -> list[tuple[str, str, int, tuple[str, ...]]]:
    return [(one.dependency, one.cause, one.count, one.blocked) for one in failures.verdicts(now)]


@pytest.fixture
def failures() -> FailureTracker:
    return FailureTracker()


def test_several_that_fail_alike_block_their_kind(failures: FailureTracker) -> None:
    for rid in range(SEVERAL - 1):
        failures.failed(GATE, rid, SIGNER, 0.0)
    assert of(failures) == [("core[0]", "wrong-signer", SEVERAL - 1, ())]
    failures.failed(GATE, SEVERAL, SIGNER, 0.0)
    assert of(failures) == [("core[0]", "wrong-signer", SEVERAL, ("public_decryption",))]


def test_one_that_passes_ends_the_block_and_the_others_still_count_as_waiting(
    failures: FailureTracker,
) -> None:
    for rid in range(SEVERAL):
        failures.failed(GATE, rid, SIGNER, 0.0)
    failures.passed(GATE, 0)
    assert of(failures) == [("core[0]", "wrong-signer", SEVERAL - 1, ())]


def test_a_shard_that_fails_alone_blocks_no_kind(failures: FailureTracker) -> None:
    """The other shards answer the same kind."""
    for rid in range(SEVERAL):
        failures.failed(GATE, rid, SIGNER, 0.0)
    failures.passed(attrs.evolve(GATE, dependency="core[1]"), 9)
    assert of(failures) == [("core[0]", "wrong-signer", SEVERAL, ())]


def test_failures_of_different_causes_are_different_alerts(failures: FailureTracker) -> None:
    failures.failed(GATE, 1, SIGNER, 0.0)
    failures.failed(GATE, 2, Failure("internal-error", "x"), 0.0)
    assert [cause for _, cause, _, _ in of(failures)] == ["internal-error", "wrong-signer"]


def test_the_verdict_says_what_was_said_last(failures: FailureTracker) -> None:
    failures.failed(GATE, 1, SIGNER, 0.0)
    failures.failed(GATE, 2, attrs.evolve(SIGNER, text="signed by 0xcd"), 0.0)
    [verdict] = failures.verdicts(0.0)
    assert (verdict.text, verdict.remedy) == ("signed by 0xcd", "look")


def test_who_gets_another_answer_or_ends_waits_no_longer(failures: FailureTracker) -> None:
    for rid in (1, 2):
        failures.failed(GATE, rid, SIGNER, 0.0)
    failures.answered("core", "answer", 1)
    failures.ended(2)
    assert of(failures) == []


def test_what_is_not_heard_of_any_more_is_forgotten(failures: FailureTracker) -> None:
    failures.failed(GATE, 1, SIGNER, 0.0)
    failures.failed(GATE, 2, SIGNER, 60.0)
    assert of(failures, WINDOW + 1)[0][2] == 1
    assert of(failures, WINDOW + 61) == []


def test_only_so_many_are_remembered(failures: FailureTracker) -> None:
    for rid in range(TRACKED + 5):
        failures.failed(GATE, rid, SIGNER, 0.0)
    assert of(failures)[0][2] == TRACKED
