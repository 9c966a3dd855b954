"""What the status page shows, for ``kmsconn top`` as ``status.live``; and requests out of the journal for that page. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kmsconn.observe.monitor import Monitor
from kmsconn.observe.status import status_of
from kmsconn.operate.control.commands import Arguments, Command, CommandError, Commands, Context
from kmsconn.operate.control.explaining import explain_request

NEWEST_IN_TERMINAL: Final = 100
"""Requests in the list of the newest ones: more than a high terminal shows."""


def live_commands(monitor: Monitor, service: str, version: str) -> Commands:
    """Return the command for a connector that this monitor watches."""

    async def live(_context: Context, _arguments: Arguments) -> Any:
        return {"service": service, "version": version, **status_of(monitor, NEWEST_IN_TERMINAL)}

    return {"status.live": Command("show what the status page shows", frozenset(), live)}


async def find_timeline(context: Context, name: str) -> Mapping[str, Any] | None:
    """Return a request of the journal as the status page shows one, None where there is none. Raises JournalFailed."""
    try:
        [found, *_] = (await explain_request(context, {"request": name}))["requests"]
    except CommandError:
        return None
    steps = [_step(step) for step in found["timeline"]]
    return {
        "row": found["row"],
        "id": found["id"],
        "kind": found["kind"],
        "stage": found["state"],
        "begun": found["recorded_at"],
        "changed": steps[-1]["at"] if steps else found["recorded_at"],
        "detail": found["reason"],
        "next": found["next"],
        "steps": steps,
    }


def _step(step: Mapping[str, Any]) -> Mapping[str, Any]:
    stages = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in step["stages"].items())
    detail = "; ".join(part for part in (stages, step["detail"]) if part)
    return {"at": step["at"], "name": step["what"], "detail": detail, "seconds": None, "times": 1}
