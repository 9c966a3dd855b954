"""The connector ended at its k-th step, or its n-th call or burst gone wrong, in every way: nothing stays, all is answered once.

Usually some points of each way are tried, others in another turn; ``KMSCONN_POINTS=all`` tries every one, ``KMSCONN_POINTS=200`` so many.
"""

from __future__ import annotations

from functools import cache

import pytest

from kmsconn.model.life import State
from kmsconn.testing.endings import Ending
from kmsconn.testing.harness import Scenario, ScenarioOutcome, run_scenario
from kmsconn.testing.spoiling import OF_BURSTS, Spoil, Spoiler
from tests.sampling import points_of

SMALL = Scenario(("public",), ())
MIXED = Scenario(("public", "direct"), ("unified",))
OTHERS = Scenario(("delegated", "wallet"), ("unified_delegated",), seed=1)


@cache
def undisturbed(scenario: Scenario) -> ScenarioOutcome:
    """Play a scenario that nothing happens to; it says how many steps there are."""
    return run_scenario(scenario)


@pytest.mark.parametrize("scenario", [SMALL, MIXED, OTHERS], ids=["small", "mixed", "others"])
def test_a_scenario_that_nothing_happens_to_is_answered(scenario: Scenario) -> None:
    undisturbed(scenario).check(scenario)


def test_a_scenario_is_the_same_every_time() -> None:
    """So that a failing step can be looked at again."""
    first, second = run_scenario(MIXED), run_scenario(MIXED)
    assert (first.steps, first.calls, first.bursts) == (second.steps, second.calls, second.bursts)


@pytest.mark.sampled
@pytest.mark.parametrize("ending", Ending)
@pytest.mark.parametrize("scenario", [SMALL, MIXED, OTHERS], ids=["small", "mixed", "others"])
def test_a_connector_ended_at_any_step_is_followed_by_one_that_answers_everything_once(
    scenario: Scenario, ending: Ending
) -> None:
    failures = []
    for at in points_of(undisturbed(scenario).steps):
        outcome = run_scenario(scenario, ending=ending, at=at)
        assert outcome.struck, f"step {at} was not reached"
        try:
            outcome.check(scenario)
        except AssertionError as error:
            failures.append(f"{ending} at step {at}: {error}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("ending", Ending)
def test_the_last_step_of_all_is_an_end_like_any_other(ending: Ending) -> None:
    at = undisturbed(SMALL).steps
    run_scenario(SMALL, ending=ending, at=at).check(SMALL)


def test_a_lost_request_would_be_seen() -> None:
    """The harness is worth something: an outcome with a request in another state does not pass."""
    outcome = undisturbed(SMALL)
    outcome.states.update({State.PENDING: 1})
    try:
        with pytest.raises(AssertionError, match="pending"):
            outcome.check(SMALL)
    finally:
        del outcome.states[State.PENDING]


HTTP = Scenario(("delegated", "wallet"), ("unified_delegated",), seed=1, websocket=False)
SCENARIOS = pytest.mark.parametrize("scenario", [MIXED, HTTP], ids=["websocket", "http"])


def names_of(scenario: Scenario, how: Spoil) -> tuple[str, ...]:
    outcome = undisturbed(scenario)
    return outcome.bursts if how in OF_BURSTS else outcome.calls


@pytest.mark.sampled
@SCENARIOS
@pytest.mark.parametrize("how", Spoil)
def test_a_call_that_goes_wrong_costs_no_request(scenario: Scenario, how: Spoil) -> None:
    names, failures = names_of(scenario, how), []
    for at in points_of(len(names)):
        outcome = run_scenario(scenario, spoiler=Spoiler(at, how))
        assert outcome.struck, f"call {at} was not made"
        try:
            outcome.check(scenario)
        except AssertionError as error:
            failures.append(f"{how} at {at}, {names[at - 1]}: {error}")
    assert not failures, "\n".join(failures)


@SCENARIOS
def test_every_dependency_is_called_and_the_calls_that_matter_most_are_among_them(scenario: Scenario) -> None:
    """Else the suite would try nothing."""
    whom, what = ({name.split()[at] for name in undisturbed(scenario).calls} for at in (0, 1))
    assert whom >= {"gateway", "ethereum", "host", "core0", "bucket0"}
    assert what >= {
        "eth_getLogs", "eth_call", "eth_estimateGas", "eth_sendRawTransaction", "eth_getTransactionCount",
        "eth_getTransactionReceipt", "UserDecrypt", "GetUserDecryptionResult", "GET",
    }  # fmt: skip
