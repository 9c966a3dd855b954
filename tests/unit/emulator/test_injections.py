"""Which fault strikes a call: the first whose method and luck fit."""

from __future__ import annotations

from random import Random

import pytest

from kmsconn.emulator.injections import FaultInjection, InjectedFault, struck

SLOW, LOST = InjectedFault("slow", 1), InjectedFault("lost", 2)


def test_a_sure_fault_of_any_method_strikes() -> None:
    assert struck([FaultInjection(1.0, SLOW)], "GET", Random(0)) == SLOW


def test_a_fault_of_another_method_does_not() -> None:
    assert (
        struck([FaultInjection(1.0, SLOW, "HEAD"), FaultInjection(1.0, LOST, "GET")], "GET", Random(0))
        == LOST
    )


def test_a_fault_without_a_chance_does_not() -> None:
    assert struck([FaultInjection(0.0, SLOW)], "GET", Random(0)) is None


def test_a_fault_for_so_many_times_leaves_the_rest_to_the_next() -> None:
    injections = [FaultInjection(1.0, SLOW, times=2), FaultInjection(1.0, LOST)]
    assert [struck(injections, "GET", Random(0)) for _ in range(3)] == [SLOW, SLOW, LOST]


@pytest.mark.parametrize("probability", [0.2, 0.7])
def test_a_fault_strikes_as_often_as_is_said(probability: float) -> None:
    random, injections = Random(1), [FaultInjection(probability, SLOW)]
    times = sum(struck(injections, "GET", random) is not None for _ in range(10_000))
    assert abs(times / 10_000 - probability) < 0.02


def test_faults_are_told_apart_by_name_alone() -> None:
    assert InjectedFault("slow", 1) == InjectedFault("slow", 2)
