"""Hostile answers in a running world: every answer that the connector reads, replaced by what no honest dependency gives."""

from __future__ import annotations

from kmsconn.testing.hostile.lies import SETTINGS, Lie, Setting
from kmsconn.testing.hostile.outcome import HostileOutcome
from kmsconn.testing.hostile.playing import every_lie, play

__all__ = ["SETTINGS", "HostileOutcome", "Lie", "Setting", "every_lie", "play"]
