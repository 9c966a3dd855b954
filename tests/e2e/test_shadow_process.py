"""A shadow and an active connector as two processes on the emulator's sockets: all replies are compared, planted differences told."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from bench.shadow import run

pytestmark = pytest.mark.rotating


async def test_a_shadow_process_compares_every_reply_and_tells_planted_differences(tmp_path: Path) -> None:
    """In the second half the shadow's shard of the Core gives other values for about half of the requests."""
    found = await run(Namespace(rate=10.0, seconds=4.0, plant=True, forms=["public"]), tmp_path)
    assert found.status["doubled"] == 0
    assert found.likenesses["equal"] + found.likenesses["different"] == found.offered == 40
    assert found.likenesses["different"] == found.told == found.differing > 0
    assert set(found.differences) == {"decryptedResult"}
    assert found.gained["count"] == found.offered
