"""An exception of ``on_event`` ends the connector and comes out; no boundary of ours swallows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.connector.connector import open_connector
from kmsconn.connector.event_hook import EventHook
from kmsconn.errors import Unreachable
from kmsconn.model.events import AlertCleared, AnswerKept, Event, RequestClosed, StageFinished
from tests.unit.requests.few_components import few_components

EVENT = AlertCleared("gateway", "logs")


class BugError(Exception):
    pass


async def run_one_request(folder: Path, on_event: Any) -> None:
    async with few_components(folder) as components:
        components.traffic.forms["public"]()
        async with open_connector(
            components.settings(), ports=components.ports, on_event=on_event
        ) as connector:
            await connector.wait_drained()


@pytest.mark.parametrize(
    "error", [BugError("in the hook"), Unreachable("as if of ours"), OSError("log file gone")]
)
@pytest.mark.parametrize("at", [StageFinished, AnswerKept])
async def test_an_exception_of_the_hook_ends_the_connector(tmp_path: Path, error: Exception, at: Any) -> None:
    """Also one that a stage, or the worker boundary, would take for its own."""
    seen = []

    def on_event(event: Event) -> None:
        seen.append(event)
        if isinstance(event, at):
            raise error

    with trio.fail_after(600), pytest.raises(BaseExceptionGroup) as caught:
        await run_one_request(tmp_path, on_event)
    assert caught.value.subgroup(lambda leaf: leaf is error) is not None
    assert not [event for event in seen if isinstance(event, RequestClosed)]
    assert isinstance(seen[-1], at)  # nothing is told after the failure


async def test_the_hook_does_not_fail_where_it_was_called() -> None:
    """Who tells an event must not be disturbed half-way through a change of its own."""
    hook = EventHook(_raise)
    hook(EVENT)
    with pytest.raises(BugError):
        await hook.watch()


async def test_a_hook_that_works_is_watched_for_ever() -> None:
    seen: list[Event] = []
    hook = EventHook(seen.append)
    hook(EVENT)
    with trio.move_on_after(5) as scope:
        await hook.watch()
    assert scope.cancelled_caught
    assert seen == [EVENT]


def _raise(_event: Event) -> None:
    raise BugError
