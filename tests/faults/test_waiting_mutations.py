"""What ends waiting and spares questions, switched off one at a time: the scene that shows it must turn red. Green otherwise: see there."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.transport.grpc.framing import Status
from tests.faults import mutations, test_destroyed, test_questions, test_taken_ids
from tests.faults.scene import open_scene

pytestmark = [pytest.mark.once, pytest.mark.long]

Scenario = Callable[[Path], Awaitable[None]]


def of(test: Callable[..., Awaitable[None]], *given: Any) -> Scenario:
    """Return a test of another suite as a scenario."""

    async def play(folder: Path) -> None:
        if "scene" in inspect.signature(test).parameters:
            async with open_scene(folder) as scene:
                if "connector" in inspect.signature(test).parameters:
                    async with scene.connected() as connector:
                        await connector.wait_ready()
                        await test(*given, scene, connector)
                else:
                    await test(*given, scene)
        else:
            await test(*given, folder)

    return play


TRIALS: list[tuple[mutations.Patch, Scenario]] = [
    (mutations.denied_like_any_wait, partial(test_questions.denied, hours=1.5)),
    (mutations.each_asks_for_itself, partial(test_questions.of_another_context, count=20, hours=1.0)),
    (
        mutations.kept_answers_are_sent,
        of(test_destroyed.test_a_kept_answer_under_what_was_destroyed_is_not_sent, "epoch"),
    ),
    (
        mutations.checked_once,
        of(
            test_destroyed.test_nothing_is_answered_under_what_was_destroyed_while_the_core_was_at_work,
            "epoch",
        ),
    ),
    (
        mutations.invalid_context_is_waited_for,
        of(
            test_destroyed.test_an_answer_under_a_context_that_the_gateway_destroyed_does_not_wait_for_ever,
            "nothing",
        ),
    ),
    (
        mutations.strictly_in_order,
        of(test_destroyed.test_an_epoch_that_the_core_cannot_make_holds_up_no_destruction),
    ),
    (
        mutations.an_end_ends_nothing,
        of(test_destroyed.test_an_epoch_that_the_core_cannot_make_holds_up_no_destruction),
    ),
    (
        mutations.a_refused_end_is_given_up,
        of(test_destroyed.test_an_end_is_told_until_the_core_has_done_it, Status.INVALID_ARGUMENT),
    ),
    (
        mutations.nothing_destroyed_is_a_wait,
        of(test_destroyed.test_an_end_of_what_the_core_does_not_have_is_done),
    ),
    (
        mutations.taken_ids_are_silence,
        of(test_taken_ids.test_a_taken_id_is_an_alert_with_its_remedy_until_that_is_done),
    ),
]


@pytest.mark.parametrize(("mutation", "scenario"), TRIALS, ids=[patch.__name__ for patch, _ in TRIALS])
async def test_a_scene_notices(
    mutation: mutations.Patch, scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    await is_red(scenario, tmp_path)


async def is_red(scenario: Scenario, folder: Path, seconds: float = math.inf) -> None:
    """See it end in a broken promise or in waiting in vain, and not in a crash: a patch that is broken itself is red anywhere."""
    failures = AssertionError, trio.TooSlowError, pytest.fail.Exception
    with pytest.raises((*failures, ExceptionGroup)) as raised:
        with trio.fail_after(seconds):
            await scenario(folder)
    assert {type(leaf) for leaf in leaves(raised.value)} <= {*failures}


def leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one)
    else:
        yield error
