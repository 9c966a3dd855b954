"""Public: worlds, faults by name, harnesses and strategies for suites that prove a connector.

The names here are stable, as are those of ``kmsconn.testing.faults``, the steps of a plan. docs/fault-suites.md shows a suite.
"""

# ruff: noqa: E402 - what needs the extra comes after the look at it

from __future__ import annotations

from kmsconn.extras import require_extra

require_extra("testing", "kmsconn.testing")

from kmsconn.testing.endings import Ending, Hung, Steps, cancel_everywhere, seeded_scheduler, watchdog
from kmsconn.testing.ground_truth import GroundTruthReport, read_ground_truth
from kmsconn.testing.harness import Scenario, ScenarioOutcome, run_scenario
from kmsconn.testing.killable import KillablePorts, Killed, Life
from kmsconn.testing.spoiling import Spoil, Spoiler
from kmsconn.testing.strategies import Case, cases, plans
from kmsconn.testing.world import PlanStep, World, WorldReport, play_world, run_world

__all__ = [
    "Case",
    "Ending",
    "GroundTruthReport",
    "Hung",
    "KillablePorts",
    "Killed",
    "Life",
    "PlanStep",
    "Scenario",
    "ScenarioOutcome",
    "Spoil",
    "Spoiler",
    "Steps",
    "World",
    "WorldReport",
    "cancel_everywhere",
    "cases",
    "plans",
    "play_world",
    "read_ground_truth",
    "run_scenario",
    "run_world",
    "seeded_scheduler",
    "watchdog",
]


def __dir__() -> list[str]:
    return sorted(__all__)
