"""A life of keys on anvil with our Solidity: one node, four nodes, and one that is killed on the way. Each reply is included once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from time import time

import attrs
import pytest
import trio

from kmsconn.connector.connector import open_connector
from kmsconn.emulator.core import become
from kmsconn.emulator.core_keys import COMPRESSED_OBJECT, object_digest
from kmsconn.emulator.core_requests import CoreRelease
from kmsconn.emulator.fhevm_dependencies import CONTEXT
from kmsconn.emulator.key_ceremonies import (
    ABORTED_PREP,
    CRS,
    KEY,
    LAST_EPOCH,
    MIGRATION_PREP,
    MIGRATION_REQUEST,
    NEXT_CONTEXT,
    NEXT_EPOCH,
    PREP,
)
from kmsconn.emulator.traffic import naming
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.model.events import AnswerKept, Event, ReplySent, ReplySigned, RequestRecorded, StageFinished
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import LATER_KMS_GENERATION
from kmsconn.testing.killable import KillablePorts, Killed, Life
from kmsconn.transport.dialling import dial_sockets
from tests.real.anvil import contracts
from tests.real.anvil.ground_truth import wait_answered
from tests.real.anvil.key_ground_truth import read_key_replies
from tests.real.anvil.owner import lead
from tests.real.anvil.users import Users
from tests.real.anvil.world import World, committee, open_world, sender_key

pytestmark = pytest.mark.sampled

ALL = {
    ("prepKeygenResponse", PREP): ["0x1"],
    ("keygenResponse", KEY): ["0x1"],
    ("crsgenResponse", CRS): ["0x1"],
    ("confirmKmsContextCreation", NEXT_CONTEXT): ["0x1"],
    ("confirmEpochActivation", NEXT_EPOCH): ["0x1"],
    ("confirmEpochActivation", LAST_EPOCH): ["0x1"],
    ("prepKeygenResponse", PREP + 1): ["0x1"],
}
"""What each node sends, and with which status: every reply once, and none of what is aborted."""
MIGRATED = {
    ("prepKeygenResponse", PREP): ["0x1"],
    ("keygenResponse", KEY): ["0x1"],
    ("crsgenResponse", CRS): ["0x1"],
    ("prepKeygenResponse", ABORTED_PREP): ["0x1"],
    ("prepKeygenResponse", MIGRATION_PREP): ["0x1"],
    ("keygenResponse", MIGRATION_REQUEST): ["0x1"],
    ("confirmKmsContextCreation", NEXT_CONTEXT): ["0x1"],
    ("confirmEpochActivation", NEXT_EPOCH): ["0x1"],
    ("confirmEpochActivation", LAST_EPOCH): ["0x1"],
}
"""What each node sends in a life with a migration, likewise."""
KINDS = (Kind.PREP_KEYGEN, Kind.KEYGEN, Kind.CRSGEN, Kind.NEW_KMS_CONTEXT, Kind.NEW_KMS_EPOCH)
KEY_INFO = LATER_KMS_GENERATION.function("getKeyInfo")
FATAL = (RequestRecorded, StageFinished, AnswerKept, ReplySigned, ReplySent)


@asynccontextmanager
async def connected(world: World, folder: Path, nodes: Iterable[int] | None = None) -> AsyncIterator[None]:
    """Run the connectors of some nodes, or of all, while the block lasts."""
    async with AsyncExitStack() as stack:
        for node in range(len(world.cores)) if nodes is None else nodes:
            await stack.enter_async_context(open_connector(world.settings(folder / f"{node}.db", node)))
        yield


@pytest.mark.parametrize("nodes", [1, 4])
async def test_a_whole_life_of_keys_is_included_once_and_decryptions_follow(
    nodes: int, anvil: Path, tmp_path: Path
) -> None:
    async with open_world(anvil, tmp_path, nodes=nodes) as world, connected(world, tmp_path):
        await lead(world, 1.0)  # time for each node to begin before three have ended
        users = Users(world, extra_data=naming(NEXT_CONTEXT, LAST_EPOCH)[1:])
        asked = await users.ask("public", "direct", "unified")
        for node in range(nodes):
            assert await read_key_replies(world, sender_key(node).address) == ALL
            ground_truth = await wait_answered(
                world.gateway.rpc, world.at.decryption, sender_key(node).address, len(asked)
            )
            assert (ground_truth.open, ground_truth.doubled) == ((), ())
            assert world.cores[node].known.contexts == {NEXT_CONTEXT.to_bytes(32)}
            assert world.cores[node].known.epochs == {LAST_EPOCH.to_bytes(32)}


class Mortal:
    """A connector that dies of the first event of each sort of each kind, and is followed by another with its journal."""

    def __init__(self, world: World, journal: Path) -> None:
        self.deaths: Counter[tuple[str, Kind]] = Counter()
        self._settings = world.settings(journal)
        self._life = Life()

    async def run(self) -> None:
        while True:
            self._life = Life()
            ports = KillablePorts(self._life, dial_sockets, time, Random(0)).ports()
            try:
                with self._life.scope:
                    async with open_connector(self._settings, ports=ports, on_event=self._note):
                        await trio.sleep_forever()
            except* Killed:
                assert self._life.dead

    def _note(self, event: Event) -> None:
        sort = (type(event).__name__, getattr(event, "kind", Kind.PUBLIC_DECRYPTION))
        if isinstance(event, FATAL) and sort[1] in KINDS and sort not in self.deaths and not self._life.dead:
            self.deaths[sort] += 1
            self._life.kill()


async def test_a_node_that_is_killed_at_each_step_gives_each_reply_once(anvil: Path, tmp_path: Path) -> None:
    async with open_world(anvil, tmp_path) as world, trio.open_nursery() as nursery:
        mortal = Mortal(world, tmp_path / "journal.db")
        nursery.start_soon(mortal.run)
        await lead(world, 0.3)
        assert await read_key_replies(world, sender_key().address) == ALL
        assert len(mortal.deaths) == len(KINDS) * len(FATAL)
        nursery.cancel_scope.cancel()


async def need_every_node(world: World) -> None:
    """Let keys be complete with the replies of all nodes only, so that a node that is killed replies too."""
    members = committee(len(world.cores))
    limits = attrs.evolve(members.thresholds, kms_gen=len(world.cores))
    call = contracts.ethereum_thresholds(CONTEXT, attrs.evolve(members, thresholds=limits))
    await world.ethereum.owner.do((world.at.protocol_config, call))


async def check_migrated(world: World) -> None:
    """See that the first key has kept its ids and digests and has a compressed set besides, which each Core has copied to it."""
    asked = {"to": to_hex(world.at.kms_generation), "data": to_hex(KEY_INFO.encode(KEY))}
    told = from_hex(await world.ethereum.rpc.call("eth_call", asked, "latest"))
    [(prep_id, key_id, _, digests)] = KEY_INFO.decode_result(told)
    assert (prep_id, key_id) == (PREP, KEY)
    assert [kind for kind, _ in digests] == [0, 1, 3]
    for core in world.cores:
        copied = core.management.store.objects[f"{COMPRESSED_OBJECT}/{KEY.to_bytes(32).hex()}"]
        assert object_digest(copied) == digests[-1][1]
        assert core.known.contexts == {NEXT_CONTEXT.to_bytes(32)}
        assert core.known.epochs == {LAST_EPOCH.to_bytes(32)}


async def test_a_key_is_migrated_across_an_upgrade_by_four_nodes_of_which_one_is_killed_at_each_step(
    anvil: Path, tmp_path: Path
) -> None:
    """The Cores are of all releases; those from 0.15 on refuse an epoch whose keys come with other preprocessing ids than recorded."""
    async with open_world(anvil, tmp_path, nodes=4) as world, trio.open_nursery() as nursery:
        for core, release in zip(world.cores, (CoreRelease.V0_15, *CoreRelease), strict=True):
            become(core, release)
        await need_every_node(world)
        mortal = Mortal(world, tmp_path / "0.db")
        nursery.start_soon(mortal.run)
        async with connected(world, tmp_path, range(1, 4)):
            await lead(world, 1.0, migrates=True)
            await check_migrated(world)
            for node in range(4):
                assert await read_key_replies(world, sender_key(node).address) == MIGRATED
        assert len(mortal.deaths) == len(KINDS) * len(FATAL)
        nursery.cancel_scope.cancel()
