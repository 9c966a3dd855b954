"""Worlds that once failed, as small as they could be made, each with its cause. A new one comes first, then the fix."""

from __future__ import annotations

import pytest

from kmsconn.testing.acts import Ask, Grant, NodeTrouble, Reorg
from kmsconn.testing.world import run_world


@pytest.mark.parametrize("at", [29.0, 59.0])
def test_one_empty_answer_at_the_end_of_the_overlap_loses_nothing(at: float) -> None:
    """A node with the right head left a request out, once, in the last read before its block left the overlap.

    Off chain for ever: nobody read that block again. Blocks of missing requests are now looked at again for a quarter of an hour.
    """
    plan = [Ask(1.0, "public", granted=False), NodeTrouble(at, "gateway", "empty_logs"), Grant(90.0)]
    run_world(plan, nodes=1, patience=200.0).check()


def test_a_reply_that_a_reorganisation_put_into_a_later_block_is_not_buried_by_its_old_one() -> None:
    """The block where it was first seen landing was older than the overlap; the one where it stood was ten seconds old (S15)."""
    run_world([Ask(1.0, "public"), Reorg(20.0, 20, "moved"), Ask(60.0, "public")], patience=200.0).check()
