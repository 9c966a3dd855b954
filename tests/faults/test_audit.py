"""Whole worlds in virtual time whose connector is killed: the audit log holds every transition once, in a chain that holds."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from kmsconn.journal.audit import verify
from kmsconn.model.life import TRANSITIONS
from kmsconn.testing.faults import Ask, Kill, KillAtWork
from kmsconn.testing.world import run_world

STEPS = {(source.value, target.value) for sources, target in TRANSITIONS.values() for source in sources}
COUNT = 6


def lives(path: Path) -> dict[int, list[tuple[str | None, str]]]:
    """Return the transitions of each row."""
    found = defaultdict(list)
    for line in map(json.loads, path.read_bytes().splitlines()):
        if line["type"] == "transition":
            found[line["row"]].append((line.get("from"), line["to"]))
    return found


@pytest.mark.parametrize("profile", ["fhevm", "httpz-rc7"])
@pytest.mark.parametrize(
    "killing",
    [
        [Kill(2.09)],
        [KillAtWork(1.5, 3, "before"), Kill(4.0)],
        [KillAtWork(1.5, 5, "after"), Kill(3.2), Kill(6.0)],
    ],
    ids=["once", "before work", "after work"],
)
def test_no_transition_is_missed_and_none_is_written_twice(
    profile: str, killing: list[Kill | KillAtWork], tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"
    run_world([Ask(1.0, "any", COUNT), *killing], seed=5, profile=profile, audit_log=path).check()
    assert verify([path]) == verify([path], verify([path]).head)
    assert verify([path]).broken == ""
    found = lives(path)
    assert len(found) == COUNT
    for steps in found.values():
        assert steps[0] == (None, "pending")
        assert set(steps[1:]) <= STEPS
        assert [after[0] for after in steps[1:]] == [before[1] for before in steps[:-1]]
        assert steps[-1][1] in {"included", "finalized"}
