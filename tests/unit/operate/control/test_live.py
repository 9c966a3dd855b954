"""A request out of the journal as the status page shows one."""

from __future__ import annotations

import pytest

from kmsconn.observe.status import timeline_of
from kmsconn.observe.timelines import Timeline, TimelineStep
from kmsconn.operate.control.explaining import find_timeline
from tests.unit.operate.control.scene import Scene


@pytest.mark.parametrize("by_id", [False, True])
async def test_a_request_is_found_by_row_and_id_with_its_steps(scene: Scene, by_id: bool) -> None:
    row = scene.rows["rejected"]
    found = await find_timeline(scene.context, f"0x{row.id:064x}" if by_id else str(row.rid))
    assert found is not None
    assert (found["row"], found["stage"]) == (row.rid, "rejected")
    assert [step["name"] for step in found["steps"]] == ["recorded", "rejected"]
    assert "because it was rejected" in found["steps"][1]["detail"]


async def test_what_the_journal_has_not_is_none(scene: Scene) -> None:
    assert await find_timeline(scene.context, "4711") is None
    assert await find_timeline(scene.context, f"0x{4711:064x}") is None


async def test_it_has_what_the_page_reads_of_a_remembered_one(scene: Scene) -> None:
    row = scene.rows["pending"]
    found = await find_timeline(scene.context, str(row.rid))
    assert found is not None
    remembered = timeline_of(Timeline(1, row.kind, 0.0, steps=[TimelineStep(0.0, "recorded")]))
    assert remembered.keys() <= found.keys()
    assert remembered["steps"][0].keys() == found["steps"][0].keys()
