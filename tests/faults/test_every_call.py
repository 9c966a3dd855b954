"""The n-th call of a dependency, or the n-th burst of bytes, goes wrong in every way there is: everything is answered once all the same.

Usually some calls for each way are tried, others every day; ``KMSCONN_POINTS=all`` tries every one.
"""

from __future__ import annotations

from functools import cache

import pytest

from kmsconn.testing.harness import Scenario, ScenarioOutcome, run_scenario
from kmsconn.testing.spoiling import OF_BURSTS, Spoil, Spoiler
from tests.sampling import points_of

WEBSOCKET = Scenario(("public", "direct"), ("unified",))
HTTP = Scenario(("delegated", "wallet"), ("unified_delegated",), seed=1, websocket=False)
SCENARIOS = pytest.mark.parametrize("scenario", [WEBSOCKET, HTTP], ids=["websocket", "http"])


@cache
def undisturbed(scenario: Scenario) -> ScenarioOutcome:
    return run_scenario(scenario)


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
def test_every_dependency_is_called(scenario: Scenario) -> None:
    """Else the suite would try nothing."""
    called = {name.split()[0] for name in undisturbed(scenario).calls}
    assert called >= {"gateway", "ethereum", "host", "core0", "bucket0"}


@SCENARIOS
def test_the_calls_that_matter_most_are_among_them(scenario: Scenario) -> None:
    assert {name.split()[1] for name in undisturbed(scenario).calls} >= {
        "eth_getLogs", "eth_call", "eth_estimateGas", "eth_sendRawTransaction", "eth_getTransactionCount",
        "eth_getTransactionReceipt", "UserDecrypt", "GetUserDecryptionResult", "GET",
    }  # fmt: skip
