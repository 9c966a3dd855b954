"""Hostile answers in a running world: every answer that the connector reads, replaced by what no honest dependency gives."""

from __future__ import annotations

from kmsconn.testing.hostile.lies import Lie
from kmsconn.testing.hostile.outcome import HostileOutcome
from kmsconn.testing.hostile.playing import every_lie, play
from kmsconn.testing.hostile.settings import SETTINGS, Setting

__all__ = ["SETTINGS", "HostileOutcome", "Lie", "Setting", "every_lie", "play"]
