"""``status.live``: what the status page shows, for ``kmsconn top``. Only a running connector has it. Changes nothing."""

from __future__ import annotations

from typing import Any, Final

from kmsconn.control.commands import Arguments, Command, Commands, Context
from kmsconn.monitoring.monitor import Monitor
from kmsconn.monitoring.status import status_of

NEWEST_IN_TERMINAL: Final = 100
"""Requests in the list of the newest ones: more than a high terminal shows."""


def live_commands(monitor: Monitor, service: str, version: str) -> Commands:
    """Return the command for a connector that this monitor watches."""

    async def live(_context: Context, _arguments: Arguments) -> Any:
        return {"service": service, "version": version, **status_of(monitor, NEWEST_IN_TERMINAL)}

    return {"status.live": Command("show what the status page shows", frozenset(), live)}
