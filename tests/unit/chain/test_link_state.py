"""The literal of an endpoint's states: each can be reached and left, and what a call does follows from it."""

from __future__ import annotations

import math

import pytest

from kmsconn.chain.keeper import LINK_TRANSITIONS, MOMENT, LinkState, moved


def test_every_state_can_be_left_and_all_but_the_first_are_reached() -> None:
    assert {state for before, _ in LINK_TRANSITIONS.values() for state in before} == set(LinkState)
    assert {after for _, after in LINK_TRANSITIONS.values()} == set(LinkState)


def test_the_life_of_a_chain_that_goes_and_comes_back() -> None:
    state, seen = LinkState.CONNECTING, []
    for transition in (
        "made",
        "ended",
        "all_failed",
        "pause_over",
        "all_failed",
        "pause_over",
        "made",
        "made",
    ):
        state = moved(state, transition)
        seen.append(state.value)
    assert seen == [
        "linked", "connecting", "paused", "retrying", "paused", "retrying", "linked", "linked",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "transition"), [(LinkState.PAUSED, "made"), (LinkState.CONNECTING, "ended")]
)
def test_no_other_transition_is_taken(state: LinkState, transition: str) -> None:
    with pytest.raises(AssertionError):
        moved(state, transition)


def test_a_chain_is_down_from_the_first_pause_on_and_calls_fail_at_once_or_wait_a_moment() -> None:
    assert [state for state in LinkState if state.is_down] == [LinkState.PAUSED, LinkState.RETRYING]
    assert [state.wait_limit for state in LinkState] == [math.inf, math.inf, 0.0, MOMENT]
