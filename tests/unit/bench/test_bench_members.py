"""Leases are followed until another process holds them. Nothing is started."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio

from bench.members import LONGEST, HandOver, Held, follow, held_by

BEFORE: Held = {"upkeep": (1, "a"), "audit": (2, "b")}


@pytest.mark.parametrize(
    ("later", "kept_after", "left", "seconds"),
    [
        pytest.param({"upkeep": (3, "b")}, LONGEST, 0, 2.0, id="another one holds it"),
        pytest.param(BEFORE, 5.0, 0, 5.0, id="it is kept"),
        pytest.param(BEFORE, LONGEST, 1, LONGEST, id="it is kept for too long"),
        pytest.param({}, LONGEST, 1, LONGEST, id="nobody takes it"),
    ],
)
async def test_a_lease_is_followed_to_its_next_holder(
    later: Mapping[str, tuple[int, str]], kept_after: float, left: int, seconds: float
) -> None:
    """The disturbance takes two seconds."""
    begun, found = trio.current_time(), list[HandOver]()

    async def ask() -> Held:
        await trio.lowlevel.checkpoint()
        return later if trio.current_time() - begun >= 2 else BEFORE

    assert await follow(ask, "term", held_by(BEFORE, "a"), found, kept_after) == left
    assert trio.current_time() - begun == pytest.approx(seconds, abs=0.02)
    assert [(one.kind, one.lease, round(one.seconds)) for one in found] == (
        [("term", "upkeep", 2)] if seconds == 2.0 else []
    )
