"""A node misses the migration of a key, whose next epoch it would hang: it is told long before, and what the alert names helps."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from kmsconn.connector.key_material import AGAIN, FIRST_LOOK, MIGRATION_MISSED
from kmsconn.emulator.core import become
from kmsconn.emulator.core_requests import CoreRelease
from kmsconn.emulator.key_ceremonies import KEY, MIGRATION_PREP, MIGRATION_REQUEST, NEXT_CONTEXT, PREP
from kmsconn.ethereum.ids import id_name
from kmsconn.model.events import AlertCleared, AlertRaised, RequestClosed
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import Standing
from tests.faults.ceremony import ENDS, LONG, Ceremony, open_ceremony
from tests.faults.test_key_upgrades import COPIED, STEPS_UNTIL_MIGRATED

pytestmark = pytest.mark.rotating

LOOK = FIRST_LOOK + 2 * AGAIN
"""Seconds until a look has told what it found twice."""
BLOCK = 12.0  # seconds; each costs CPU


async def miss(ceremony: Ceremony) -> None:
    """Have the key migrated while the first node's connector dies of whatever it tells, and has time afterwards."""
    ceremony.owner.ceremonies.migrates = True
    for core in ceremony.cores:
        become(core, CoreRelease.V0_15)
    with trio.fail_after(4 * LONG):
        for name in STEPS_UNTIL_MIGRATED[:-1]:
            await ceremony.owner.steps[name]()
        ceremony.dead_for = BLOCK
        ceremony.deadly = lambda _: True
        await ceremony.owner.steps["migration"]()
    await trio.sleep(ENDS)
    ceremony.deadly = lambda _: False
    await trio.sleep(LOOK)


def told(ceremony: Ceremony, node: int, event: type[AlertRaised | AlertCleared]) -> list[str]:
    """Return the dependencies of which a node said that its Core has missed a migration, or has not any more."""
    said = [one for one in ceremony.events[node] if isinstance(one, event)]
    return [one.dependency for one in said if one.cause == MIGRATION_MISSED]


async def changes_context(ceremony: Ceremony) -> bool:
    """Have the network go over to the next context, and return whether its epoch became active."""
    owner = ceremony.owner.ceremonies.contracts
    with trio.move_on_after(LONG / 2):
        await ceremony.owner.steps["context"]()
    standing = await owner.read(owner.views.config.context_standing(NEXT_CONTEXT))
    return standing is Standing.ACTIVE


async def test_a_node_that_misses_a_migration_is_told_before_it_hangs_an_epoch_whatever_its_storage_has(
    tmp_path: Path,
) -> None:
    """Its requests end as done, and its Core keeps the earlier preparation, also where the key set is copied by hand."""
    async with open_ceremony(tmp_path, block_time=BLOCK) as ceremony:
        await miss(ceremony)
        check_missed(ceremony)
        bucket, other = (ceremony.dependencies.storages[node] for node in (0, 1))
        bucket.put(COPIED, other.objects[COPIED].body)
        await trio.sleep(LOOK)
        assert [told(ceremony, node, AlertRaised) for node in ceremony.nodes] == [["core[0]"], [], [], []]
        assert not await changes_context(ceremony)
        assert told(ceremony, 0, AlertCleared) == []


def check_missed(ceremony: Ceremony) -> None:
    """See what three Cores have recorded and the first one has not, how its request ended, and what the alert says."""
    recorded = [core.management.store.preprocessings[KEY.to_bytes(32)] for core in ceremony.cores]
    assert recorded == [one.to_bytes(32) for one in (PREP, *[MIGRATION_PREP] * 3)]
    ends = [one for one in ceremony.told(0, RequestClosed, Kind.KEYGEN) if one.id == MIGRATION_REQUEST]
    assert [(one.state, one.cause) for one in ends] == [(State.DONE, "over")]
    [text] = [
        one.text
        for one in ceremony.events[0]
        if isinstance(one, AlertRaised) and one.cause == MIGRATION_MISSED
    ]
    assert f"names {id_name(MIGRATION_PREP)} for it, and the Core has recorded {id_name(PREP)}" in text


def record_as_others(ceremony: Ceremony) -> None:
    """Change the record of the first node's Core, and what it tells of the key, to the migration's."""
    own, other = (ceremony.cores[node].management for node in (0, 1))
    name = KEY.to_bytes(32)
    own.store.preprocessings[name] = other.store.preprocessings[name]
    job = other.jobs.table("key").get(name)
    assert job is not None
    own.jobs.renew("key", name, job.result)


@pytest.mark.parametrize("newcomers", [0, 1], ids=["record changed", "node replaced"])
async def test_what_the_alert_names_lets_the_next_epoch_become_active(newcomers: int, tmp_path: Path) -> None:
    """The alert ends with the Core's record, which is seen before the epoch; or with the epoch that this node has no part in."""
    async with open_ceremony(tmp_path, newcomers=newcomers, block_time=BLOCK) as ceremony:
        await miss(ceremony)
        assert told(ceremony, 0, AlertRaised) == ["core[0]"]
        if not newcomers:
            record_as_others(ceremony)
            await ceremony.wait(lambda: told(ceremony, 0, AlertCleared))
        assert await changes_context(ceremony)
        await ceremony.wait(lambda: told(ceremony, 0, AlertCleared))
        assert len(told(ceremony, 0, AlertRaised)) == 1
