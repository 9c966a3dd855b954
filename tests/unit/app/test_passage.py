"""Whose fault it is: a request that fails is suspect of its dependency until others have passed meanwhile."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.app.passage import SEVERAL, TRACKED, WINDOW, Failure, Gate, Passage

GATE = Gate("core[0]", "core", "answer", "public_decryption")
SIGNER = Failure("wrong-signer", "signed by 0xab", "look")


def of(passage: Passage, now: float = 0.0) -> list[tuple[str, str, int, tuple[str, ...]]]:
    return [(one.dependency, one.cause, one.count, one.blocked) for one in passage.verdicts(now)]


@pytest.fixture
def passage() -> Passage:
    return Passage()


def test_the_first_failures_are_nobodys_own(passage: Passage) -> None:
    """However often they are repeated, while nobody passes."""
    passage.passed(GATE, 99)
    assert [passage.failed(GATE, rid, SIGNER, 0.0) for rid in (1, 2, 1, 2, 1)] == [False] * 5


def test_who_fails_again_after_another_passed_fails_by_itself(passage: Passage) -> None:
    passage.failed(GATE, 1, SIGNER, 0.0)
    passage.passed(GATE, 2)
    assert passage.failed(GATE, 1, SIGNER, 0.0)
    assert not passage.failed(GATE, 3, SIGNER, 0.0)


@pytest.mark.parametrize("change", [{"dependency": "core[1]"}, {"kind": "keygen"}, {"stage": "submit"}])
def test_who_passed_elsewhere_proves_nothing(change: dict[str, Any], passage: Passage) -> None:
    passage.failed(GATE, 1, SIGNER, 0.0)
    passage.passed(attrs.evolve(GATE, **change), 2)
    assert not passage.failed(GATE, 1, SIGNER, 0.0)


def test_another_failure_begins_anew(passage: Passage) -> None:
    passage.failed(GATE, 1, Failure("internal-error", "x"), 0.0)
    passage.passed(GATE, 2)
    assert not passage.failed(GATE, 1, SIGNER, 0.0)


def test_several_that_fail_alike_block_their_kind(passage: Passage) -> None:
    for rid in range(SEVERAL - 1):
        passage.failed(GATE, rid, SIGNER, 0.0)
    assert of(passage) == [("core[0]", "wrong-signer", SEVERAL - 1, ())]
    passage.failed(GATE, SEVERAL, SIGNER, 0.0)
    assert of(passage) == [("core[0]", "wrong-signer", SEVERAL, ("public_decryption",))]


def test_one_that_passes_ends_the_block_and_the_others_still_count_as_waiting(passage: Passage) -> None:
    for rid in range(SEVERAL):
        passage.failed(GATE, rid, SIGNER, 0.0)
    passage.passed(GATE, 0)
    assert of(passage) == [("core[0]", "wrong-signer", SEVERAL - 1, ())]


def test_a_shard_that_fails_alone_blocks_no_kind(passage: Passage) -> None:
    """The other shards answer the same kind; what this one says is still no request's own fault."""
    for rid in range(SEVERAL):
        passage.failed(GATE, rid, SIGNER, 0.0)
    passage.passed(attrs.evolve(GATE, dependency="core[1]"), 9)
    assert of(passage) == [("core[0]", "wrong-signer", SEVERAL, ())]
    assert not passage.failed(GATE, 0, SIGNER, 0.0)


def test_failures_of_different_causes_are_different_alerts(passage: Passage) -> None:
    passage.failed(GATE, 1, SIGNER, 0.0)
    passage.failed(GATE, 2, Failure("internal-error", "x"), 0.0)
    assert [cause for _, cause, _, _ in of(passage)] == ["internal-error", "wrong-signer"]


def test_the_verdict_says_what_was_said_last(passage: Passage) -> None:
    passage.failed(GATE, 1, SIGNER, 0.0)
    passage.failed(GATE, 2, attrs.evolve(SIGNER, text="signed by 0xcd"), 0.0)
    [verdict] = passage.verdicts(0.0)
    assert (verdict.text, verdict.remedy) == ("signed by 0xcd", "look")


def test_who_gets_another_answer_or_ends_waits_no_longer(passage: Passage) -> None:
    for rid in (1, 2):
        passage.failed(GATE, rid, SIGNER, 0.0)
    passage.answered("core", "answer", 1)
    passage.ended(2)
    assert of(passage) == []


def test_what_is_not_heard_of_any_more_is_forgotten(passage: Passage) -> None:
    passage.failed(GATE, 1, SIGNER, 0.0)
    passage.failed(GATE, 2, SIGNER, 60.0)
    assert of(passage, WINDOW + 1)[0][2] == 1
    assert of(passage, WINDOW + 61) == []


def test_only_so_many_are_remembered_and_none_of_the_others_is_ended(passage: Passage) -> None:
    for rid in range(TRACKED + 5):
        passage.failed(GATE, rid, SIGNER, 0.0)
    assert of(passage)[0][2] == TRACKED
    passage.passed(GATE, 0)
    assert not passage.failed(GATE, TRACKED + 1, SIGNER, 0.0)
