"""What bounds a client of a port, an id as a Core takes it, and the mark of the proof, switched off one at a time: a scene turns red.

Green otherwise: see the scenes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.operate.control.server import REQUEST_BYTES
from kmsconn.serving.exchange import LINGER_SECONDS
from kmsconn.serving.wire import HEAD_BYTES, BadRequest
from tests.faults import mutations
from tests.faults.scene import open_scene
from tests.faults.test_waiting_mutations import Scenario, is_red
from tests.unit.operate.control import scene as control_scene
from tests.unit.operate.control import test_control_server
from tests.unit.requests import test_completeness
from tests.unit.serving import test_exchange, test_wire

pytestmark = [pytest.mark.once, pytest.mark.sampled]

LONGEST = 600.0  # virtual seconds: what hangs is red


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


TRIALS: list[tuple[mutations.Patch, Scenario]] = [
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
            test_control_server.test_who_does_not_end_the_line_is_left_after_a_while,
            said=b"",
        ),
    ),
    (
        mutations.results_may_be_left_unread,
        at_the_socket(test_control_server.test_who_does_not_take_the_answer_is_left_after_a_while),
    ),
    (
        mutations.commands_of_any_size,
        at_the_socket(a_command_without_end),
    ),
    (
        mutations.the_mark_of_the_proof_ignored,
        in_the_open(test_completeness.test_nothing_below_the_low_water_mark_is_asked_for),
    ),
]
IDS = [patch.__name__ for patch, _ in TRIALS]


@pytest.mark.parametrize(("mutation", "scenario"), TRIALS, ids=IDS)
async def test_a_scene_notices(
    mutation: mutations.Patch, scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    await is_red(scenario, tmp_path, LONGEST)


@pytest.mark.parametrize(("mutation", "scenario"), TRIALS, ids=IDS)
async def test_the_scene_is_green_otherwise(
    mutation: mutations.Patch, scenario: Scenario, tmp_path: Path
) -> None:
    del mutation
    with trio.fail_after(LONGEST):
        await scenario(tmp_path)
