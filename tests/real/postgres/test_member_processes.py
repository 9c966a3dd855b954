"""Processes over one journal that are ended, killed, stopped and cut off under a load: nothing is lost, nothing doubled, others go on."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from bench.members import KINDS, WARM_UP, Disturber, MemberProcess, open_members
from bench.processes import open_dependencies
from bench.soak import HISTORY, verdict_of

pytestmark = pytest.mark.sampled

LEASE = 2.0
BUSY = 15.0
"""Seconds more that anything may take on a busy machine."""
LOAD = {"rate": 8, "seconds": 40, "reply_timeout": 60}


async def test_whoever_is_disturbed_nothing_is_lost_or_doubled_and_others_go_on(tmp_path: Path) -> None:
    """Each disturbance hits the process that reads and sends."""
    done: dict[str, Any] = {}
    async with (
        open_dependencies(tmp_path, "--size", "205", "--computing", "0.01", *HISTORY) as dependencies,
        open_members(dependencies, 3, LEASE) as (members, held),
    ):
        warm = await dependencies.post("/load", WARM_UP)
        disturber = Disturber(members, held, Random(0), LEASE)

        async def load() -> None:
            done.update(await dependencies.post("/load", LOAD))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(load)
            for kind in KINDS:
                await trio.sleep(1)
                await disturber.disturb(kind, await holder(members, held))
        status = await dependencies.get("/status")
        logs = [member.text() for member in members]
    assert verdict_of(status, warm["offered"] + done["offered"]).well, status
    assert not any("Traceback" in log for log in logs)
    assert disturber.statuses == [0]
    slowest = {kind: max(one.seconds for one in disturber.handed_over if one.kind == kind) for kind in KINDS}
    assert slowest["term"] < 1 + BUSY
    assert all(slowest[kind] < LEASE + 1 + BUSY for kind in ("kill", "stop", "cut")), slowest
    assert any("starting anew" in log for log in logs)


async def holder(members: list[MemberProcess], held: Any) -> MemberProcess:
    """Return the process that holds most leases."""
    found = [who for _, who in (await held()).values()]
    return max(members, key=lambda member: found.count(member.name))
