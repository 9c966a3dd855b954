"""All commands that a connector understands, by name."""

from __future__ import annotations

from typing import Final

from kmsconn.operate.control import explaining, pausing, quarantine, replaying, requests, status
from kmsconn.operate.control.commands import Commands

COMMANDS: Final[Commands] = {
    **status.COMMANDS,
    **requests.COMMANDS,
    **explaining.COMMANDS,
    **quarantine.COMMANDS,
    **pausing.COMMANDS,
    **replaying.COMMANDS,
}
