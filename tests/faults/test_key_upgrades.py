"""Keys across the upgrade to KMSGeneration 0.3.0: upgraded in mid-ceremony, migrated, aborted and repeated, reshared and destroyed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
import trio

from kmsconn.emulator import key_ceremonies
from kmsconn.emulator.contracts.gateway_config import Committee
from kmsconn.emulator.contracts.protocol_config import Announcement
from kmsconn.emulator.core import become
from kmsconn.emulator.core_keys import COMPRESSED_OBJECT, PUBLIC_PREFIX
from kmsconn.emulator.core_requests import CoreRelease
from kmsconn.emulator.execution import BlockContext, Frame, Meter
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.key_ceremonies import (
    ABORTED_PREP,
    ABORTED_REQUEST,
    KEY,
    LAST_EPOCH,
    MIGRATION_PREP,
    MIGRATION_REQUEST,
    NEXT_CONTEXT,
)
from kmsconn.ethereum.abi import Function
from kmsconn.model.events import AlertCleared, AlertRaised
from kmsconn.protocols.fhevm.contracts import LATER_KMS_GENERATION
from kmsconn.protocols.fhevm.epochs import CONFIRM as CONFIRM_EPOCH
from kmsconn.protocols.fhevm.keygen import KEY_RESPONSE
from kmsconn.testing.faults import (
    AskKey,
    CoreUpgrade,
    Drain,
    KeyUpgrade,
    Kill,
    KillAtWork,
    LaggingNodes,
    Outage,
    Strike,
)
from kmsconn.testing.world import PlanStep, run_world
from tests.faults.ceremony import ENDS, LONG, Ceremony, open_ceremony
from tests.faults.scene import all_mined

pytestmark = pytest.mark.sampled


def calls(ceremony: Ceremony, function: Function) -> list[tuple[Any, ...]]:
    """Return the arguments of every call of a function that was included, in their order."""
    included = all_mined(ceremony.dependencies.ethereum)
    found = [mined.transaction.data for mined in included if mined.outcome.status]
    return [function.decode(data) for data in found if data.startswith(function.selector)]


def view(ceremony: Ceremony, name: str, identifier: int) -> Any:
    """Return what a view of KMSGeneration says at the head."""
    chain, contract = ceremony.dependencies.ethereum, ceremony.dependencies.kms_generation
    function = LATER_KMS_GENERATION.function(name)
    context = BlockContext(chain.chain_id, chain.head.number, chain.head.timestamp)
    calldata = function.encode(identifier)
    frame = Frame(chain.evm.state, context, contract.address, contract.address, calldata, Meter(10**9))
    return function.decode_result(contract.execute(frame))[0]


STEPS_UNTIL_MIGRATED = ("announcement", "key across an upgrade", "CRS", "abort of a migration", "migration")
COPIED = f"{COMPRESSED_OBJECT}/{KEY.to_bytes(32).hex()}"
"""Where the compressed key set of the migrated key lies."""
RELEASES = {
    "0.14": (CoreRelease.V0_14,),
    "0.15": (CoreRelease.V0_15,),
    "0.16": (CoreRelease.V0_16,),
    "all": tuple(CoreRelease),
}
"""The releases of the Cores of a committee, in turn."""


@pytest.mark.parametrize("releases", RELEASES.values(), ids=RELEASES)
async def test_a_committee_migrates_its_key_and_leads_it_to_the_end(
    releases: tuple[CoreRelease, ...], ceremony: Ceremony
) -> None:
    """From 0.15 on the Cores compare the preprocessing of a key in a new epoch with the recorded one."""
    ceremony.owner.ceremonies.migrates = True
    for core, release in zip(ceremony.cores, cycle(releases), strict=False):
        become(core, release)
    with trio.fail_after(4 * LONG):
        await ceremony.owner.play()
    await trio.sleep(ENDS)
    for node in ceremony.nodes:
        ceremony.check_replies(node)
    check_material(view(ceremony, "getKeyInfo", KEY))
    for core in ceremony.cores:
        assert COPIED in core.management.store.objects
        assert core.known.contexts == {NEXT_CONTEXT.to_bytes(32)}
        assert core.known.epochs == {LAST_EPOCH.to_bytes(32)}
    check_calls(ceremony)


def check_material(info: Any) -> None:
    """See that the existing key has kept its preparation and its digests, and has a compressed key set besides."""
    prep_id, key_id, _, digests = info
    assert (prep_id, key_id) == (KEY - (1 << 248), KEY)
    assert [kind for kind, _ in digests] == [0, 1, 3]


def check_calls(ceremony: Ceremony) -> None:
    """See that every node has made the key whole, and all later material compressed; and that the aborted migration has no reply."""
    replied = {key_id: [kind for kind, _ in digests] for key_id, digests, _ in calls(ceremony, KEY_RESPONSE)}
    assert replied == {KEY: [0, 1], MIGRATION_REQUEST: [1, 3]}
    confirmed = [keys for _, keys, _ in calls(ceremony, CONFIRM_EPOCH)]
    assert {tuple(kind for kind, _ in key[2]) for keys in confirmed for key in keys} == {(1, 3)}
    aborted = ceremony.keys(0).aborted
    assert {("keygenResponse", ABORTED_REQUEST)} <= aborted
    assert ("prepKeygenResponse", MIGRATION_PREP) in ceremony.keys(0).replied
    assert ("prepKeygenResponse", ABORTED_PREP) in ceremony.keys(0).replied


async def test_a_copy_that_fails_is_told_by_the_node_whose_storage_lacks_the_key_set(
    ceremony: Ceremony,
) -> None:
    """The migration is done all the same, and nobody else says anything; the alert ends once the object is there."""
    ceremony.owner.ceremonies.migrates = True
    ceremony.cores[0].management.store.copies = False
    with trio.fail_after(4 * LONG):
        for name in STEPS_UNTIL_MIGRATED:
            await ceremony.owner.steps[name]()
    await ceremony.wait(lambda: told(ceremony, 0, AlertRaised))
    await trio.sleep(LONG)
    assert ("keygenResponse", MIGRATION_REQUEST) in ceremony.keys(0).replied
    assert not any(told(ceremony, node, AlertRaised) for node in (1, 2, 3))
    bucket, other = (ceremony.dependencies.storages[node] for node in (0, 1))
    bucket.put(COPIED, other.objects[COPIED].body)
    await ceremony.wait(lambda: told(ceremony, 0, AlertCleared))


async def test_a_copy_under_the_prefix_of_a_storage_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Core keeps its objects under a prefix of its bucket, which the registration names beside the URL."""
    storage_url, announced = FhevmDependencies._storage_url, key_ceremonies.announcement_of

    def bare(dependencies: FhevmDependencies, member: int) -> str:
        return storage_url(dependencies, member).removesuffix(PUBLIC_PREFIX)

    def prefixed(committee: Committee) -> Announcement:
        told = announced(committee)
        prefix = PUBLIC_PREFIX.strip("/")
        return attrs.evolve(told, nodes=tuple(attrs.evolve(one, storage_prefix=prefix) for one in told.nodes))

    monkeypatch.setattr(FhevmDependencies, "_storage_url", bare)
    monkeypatch.setattr(key_ceremonies, "announcement_of", prefixed)
    async with open_ceremony(tmp_path) as ceremony:
        ceremony.owner.ceremonies.migrates = True
        with trio.fail_after(4 * LONG):
            for name in STEPS_UNTIL_MIGRATED:
                await ceremony.owner.steps[name]()
        buckets = [ceremony.dependencies.storages[node] for node in ceremony.nodes]
        await ceremony.wait(lambda: all(one.counts[("GET", 200)] for one in buckets), 2 * LONG)
        assert not any(told(ceremony, node, AlertRaised) for node in ceremony.nodes)


def told(ceremony: Ceremony, node: int, event: type[AlertRaised | AlertCleared]) -> list[Any]:
    """Return what a node said of the key set that its storage lacks."""
    said = (one for one in ceremony.events[node] if isinstance(one, event))
    return [one for one in said if one.cause == "key-set-missing"]


@pytest.mark.parametrize("at", [20.0, 45.0, 90.0], ids=["preparing", "generating", "between two keys"])
def test_worlds_make_keys_across_an_upgrade_of_the_contract(at: float) -> None:
    """The connector is killed after it; a second key is asked for by the later contract alone."""
    report = run_world([AskKey(1.0), KeyUpgrade(at), Kill(at + 2.0, 3.0), AskKey(100.0)])
    report.check()
    assert len(report.keys.replied) == 4


@pytest.mark.parametrize(("core", "contract"), [(20.0, 45.0), (70.0, 20.0)], ids=["Core", "contract"])
def test_worlds_upgrade_core_or_contract_first_and_go_back(core: float, contract: float) -> None:
    """Back goes the Core alone, and then the contract, which keeps the key types that it knows."""
    steps: list[PlanStep] = [
        AskKey(1.0),
        CoreUpgrade(core),
        KeyUpgrade(contract),
        AskKey(100.0),
        Drain(112.0, 3.0),
        CoreUpgrade(160.0, CoreRelease.V0_14),
        KeyUpgrade(170.0, "later 0.2.0"),
        AskKey(180.0),
    ]
    report = run_world(steps)
    report.check()
    assert len(report.keys.replied) == 6


def disturbed(seed: int) -> list[PlanStep]:
    """Return three requests for a key, an upgrade, and one to four faults that lose nothing of what the Core has prepared."""
    draw = Random(seed)
    release = draw.choice(["0.3.0", "0.3.0", "later 0.2.0"])
    steps: list[PlanStep] = [
        AskKey(1.0),
        KeyUpgrade(draw.uniform(2, 110), release),
        AskKey(draw.uniform(75, 110)),
        AskKey(160.0),
    ]
    faults: list[Callable[[float], PlanStep]] = [
        lambda at: Kill(at, draw.uniform(0.5, 20)),
        lambda at: KillAtWork(at, draw.randint(1, 8), draw.choice(["before", "after"])),
        lambda at: Drain(at, draw.uniform(1, 10)),
        lambda at: Outage(
            at, "ethereum", draw.choice(["refuse", "unreachable", "lost"]), draw.uniform(3, 40)
        ),
        lambda at: Outage(at, "core0", draw.choice(["refuse", "unreachable", "lost"]), draw.uniform(3, 40)),
        lambda at: Strike(at, "ethereum", LaggingNodes(draw.randint(1, 4), node=0), draw.uniform(3, 30)),
    ]
    return steps + [draw.choice(faults)(draw.uniform(3, 150)) for _ in range(draw.randint(1, 4))]


@pytest.mark.parametrize("seed", range(6))
def test_worlds_make_keys_across_an_upgrade_whatever_else_happens(seed: int) -> None:
    run_world(disturbed(seed), seed=seed).check()
