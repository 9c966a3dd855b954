"""Public: worlds, faults by name, harnesses and strategies for suites that prove a connector.

The names here are stable, as are those of ``kmsconn.testing.faults``, the steps of a plan, and ``kmsconn.testing.hostile``, worlds with
hostile answers. docs/fault-suites.md shows a suite.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from kmsconn.extras import require_extra

require_extra("testing", "kmsconn.testing")

if TYPE_CHECKING:
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

# A name is imported when it is first used: a module of this package need not load the others.
_HOMES: Final = {
    "testing.endings": "Ending Hung Steps cancel_everywhere seeded_scheduler watchdog",
    "testing.ground_truth": "GroundTruthReport read_ground_truth",
    "testing.harness": "Scenario ScenarioOutcome run_scenario",
    "testing.killable": "KillablePorts Killed Life",
    "testing.spoiling": "Spoil Spoiler",
    "testing.strategies": "Case cases plans",
    "testing.world": "PlanStep World WorldReport play_world run_world",
}
_HOME_OF: Final = {name: f"kmsconn.{home}" for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'kmsconn.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
