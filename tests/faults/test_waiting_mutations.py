"""What ends waiting, spares questions, bounds a client of a port or marks a proof, switched off one at a time: its scene turns red."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.operate.control.server import REQUEST_BYTES
from kmsconn.serving.exchange import LINGER_SECONDS
from kmsconn.serving.wire import HEAD_BYTES, BadRequest
from kmsconn.transport.grpc.framing import Status
from tests.failures import leaves
from tests.faults import mutations, test_destroyed, test_questions
from tests.faults.scene import open_scene
from tests.unit.operate.control import scene as control_scene
from tests.unit.operate.control import test_control_server
from tests.unit.requests import test_completeness
from tests.unit.serving import test_exchange, test_wire

pytestmark = pytest.mark.once
LONGEST = 600.0  # virtual seconds: what hangs at a port is red

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
        of(test_destroyed.test_a_taken_id_is_an_alert_with_its_remedy_until_that_is_done),
    ),
]


def in_the_open(test: Callable[..., Awaitable[None]], **given: Any) -> Scenario:
    """Return a test that needs no folder."""

    async def play(_folder: Path) -> None:
        await test(**given)

    return play


def at_the_socket(test: Callable[..., Awaitable[None]], **given: Any) -> Scenario:
    """Return a test of the control socket."""

    async def play(folder: Path) -> None:
        async with control_scene.open_scene(folder) as scene:
            await test(scene, **given)

    return play


async def a_head_without_end(_folder: Path) -> None:
    await trio.lowlevel.checkpoint()
    with pytest.raises(BadRequest):
        test_wire.asked(b"GET /" + b"a" * HEAD_BYTES)


async def a_command_without_end(scene: control_scene.Scene) -> None:
    assert await test_control_server.said_to(scene, b"x" * (REQUEST_BYTES + 1)) is not None


async def a_request_is_answered(folder: Path) -> None:
    async with open_scene(folder) as scene, scene.connected() as connector:
        await connector.wait_ready()
        await scene.wait_answered(await scene.ask("public"))


OF_PORTS: list[tuple[mutations.Patch, Scenario]] = [
    (mutations.ids_without_leading_zeros, a_request_is_answered),
    (
        mutations.probes_may_take_for_ever,
        in_the_open(
            test_exchange.test_a_client_that_does_not_ask_is_let_go_and_told_so_if_it_began,
            sent=test_exchange.REQUEST[:-2],
            said=b"HTTP/1.1 408 ",
            seconds=LINGER_SECONDS,
        ),
    ),
    (
        mutations.metrics_may_be_left_unread,
        in_the_open(test_exchange.test_a_client_that_takes_nothing_is_let_go),
    ),
    (mutations.probes_of_any_size, a_head_without_end),
    (
        mutations.commands_may_take_for_ever,
        at_the_socket(
            test_control_server.test_who_does_not_end_the_line_is_left_after_a_while, goes=False, said=b""
        ),
    ),
    (
        mutations.results_may_be_left_unread,
        at_the_socket(test_control_server.test_who_does_not_take_the_answer_is_left_after_a_while),
    ),
    (mutations.commands_of_any_size, at_the_socket(a_command_without_end)),
    (
        mutations.the_mark_of_the_proof_ignored,
        in_the_open(test_completeness.test_nothing_below_the_low_water_mark_is_asked_for),
    ),
]

PORT_IDS = [patch.__name__ for patch, _ in OF_PORTS]


@pytest.mark.parametrize(
    ("mutation", "scenario", "seconds"),
    [
        *(pytest.param(*one, math.inf, marks=pytest.mark.long, id=one[0].__name__) for one in TRIALS),
        *(pytest.param(*one, LONGEST, marks=pytest.mark.sampled, id=one[0].__name__) for one in OF_PORTS),
    ],
)
async def test_a_scene_notices(
    mutation: mutations.Patch,
    scenario: Scenario,
    seconds: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends in a broken promise or in waiting in vain, and not in a crash: a patch that is broken itself is red anywhere."""
    mutation(monkeypatch)
    failures = AssertionError, trio.TooSlowError, pytest.fail.Exception
    with pytest.raises((*failures, ExceptionGroup)) as raised:
        with trio.fail_after(seconds):
            await scenario(tmp_path)
    assert {type(leaf) for leaf in [*leaves(raised.value)] or [raised.value]} <= {*failures}


@pytest.mark.sampled
@pytest.mark.parametrize("scenario", [scenario for _, scenario in OF_PORTS], ids=PORT_IDS)
async def test_the_scene_is_green_otherwise(scenario: Scenario, tmp_path: Path) -> None:
    with trio.fail_after(LONGEST):
        await scenario(tmp_path)
