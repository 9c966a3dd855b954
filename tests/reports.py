"""What a worker of pytest-xdist tells its controller of a test: two messages where it passed, not six, of a third of a millisecond each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Send = Callable[..., None]


def is_told(event: str, details: dict[str, Any]) -> bool:
    """Say whether an event changes what a run prints: not the begin and the end of a test, nor a set-up or teardown that passed."""
    if event != "testreport":
        return event not in {"logstart", "logfinish"}
    report = details["data"]
    return not (report["when"] in {"setup", "teardown"} and report["outcome"] == "passed")


def leave_out_the_rest(config: pytest.Config) -> None:
    """Let this process, if it is a worker, send what is told; everything where durations or a JUnit file are wanted."""
    if config.getoption("durations") or config.getoption("xmlpath"):
        return
    for plugin in config.pluginmanager.get_plugins():
        if type(plugin).__name__ == "WorkerInteractor":
            plugin.sendevent = _filtered(plugin.sendevent)


def _filtered(send: Send) -> Send:
    def send_what_is_told(name: str, **details: Any) -> None:
        if is_told(name, details):
            send(name, **details)

    return send_what_is_told
