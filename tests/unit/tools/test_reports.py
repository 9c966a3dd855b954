"""What workers leave out of their messages changes nothing that a run prints."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.reports import is_told, leave_out_the_rest


def report(when: str, outcome: str) -> dict[str, Any]:
    return {"data": {"when": when, "outcome": outcome}}


@pytest.mark.parametrize("outcome", ["passed", "failed", "skipped"])
def test_every_call_is_told(outcome: str) -> None:
    assert is_told("testreport", report("call", outcome))


@pytest.mark.parametrize("when", ["setup", "teardown"])
def test_around_a_call_only_what_did_not_pass_is_told(when: str) -> None:
    told = [
        outcome for outcome in ("passed", "failed", "skipped") if is_told("testreport", report(when, outcome))
    ]
    assert told == ["failed", "skipped"]


def test_the_controller_learns_that_a_test_is_over() -> None:
    """It hands out the next file then."""
    events = ("logstart", "logfinish", "runtest_protocol_complete", "workerfinished", "collectionfinish")
    assert [event for event in events if is_told(event, {})] == list(events[2:])


class WorkerInteractor:
    """Stands for the plugin of that name, as far as it counts here."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def sendevent(self, name: str, **details: Any) -> None:
        self.sent.append(name)


def worker(interactor: WorkerInteractor, **options: Any) -> Any:
    """Return the configuration of a worker."""
    plugins = SimpleNamespace(get_plugins=lambda: {object(), interactor})
    return SimpleNamespace(
        pluginmanager=plugins, getoption={"durations": None, "xmlpath": None, **options}.get
    )


@pytest.mark.parametrize(
    ("options", "sent"),
    [({}, ["runtest_protocol_complete"]), ({"durations": 10}, None), ({"xmlpath": "junit.xml"}, None)],
)
def test_where_durations_or_a_file_are_wanted_everything_is_sent(
    options: dict[str, Any], sent: list[str] | None
) -> None:
    interactor = WorkerInteractor()
    leave_out_the_rest(worker(interactor, **options))
    for event in (events := ["logstart", "runtest_protocol_complete", "logfinish"]):
        interactor.sendevent(event)
    assert interactor.sent == (sent or events)


def test_the_plugin_of_this_run_is_the_one_that_is_looked_for(request: pytest.FixtureRequest) -> None:
    """With another pytest-xdist the name could be another one."""
    if not hasattr(request.config, "workerinput"):
        pytest.skip("not a worker of pytest-xdist")
    names = {type(plugin).__name__ for plugin in request.config.pluginmanager.get_plugins()}
    assert "WorkerInteractor" in names
