"""A life of keys on anvil with our Solidity: one node, four nodes, and one that is killed on the way. Each reply is included once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from time import time

import pytest
import trio

from kmsconn.app.connector import open_connector
from kmsconn.emulator.key_ceremonies import CRS, KEY, LAST_EPOCH, NEXT_CONTEXT, NEXT_EPOCH, PREP
from kmsconn.emulator.traffic import naming
from kmsconn.model.events import AnswerKept, Event, ReplySent, ReplySigned, RequestRecorded, StageFinished
from kmsconn.model.requests import Kind
from kmsconn.testing.killable import KillablePorts, Killed, Life
from kmsconn.transport.dialling import dial_sockets
from tests.real.anvil.ground_truth import wait_answered
from tests.real.anvil.key_ground_truth import read_key_replies
from tests.real.anvil.owner import Owner
from tests.real.anvil.users import Users
from tests.real.anvil.world import World, open_world, sender_key

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
KINDS = (Kind.PREP_KEYGEN, Kind.KEYGEN, Kind.CRSGEN, Kind.NEW_KMS_CONTEXT, Kind.NEW_KMS_EPOCH)
FATAL = (RequestRecorded, StageFinished, AnswerKept, ReplySigned, ReplySent)


@asynccontextmanager
async def connected(world: World, folder: Path) -> AsyncIterator[None]:
    """Run the connector of each node while the block lasts."""
    async with AsyncExitStack() as stack:
        for node in range(len(world.cores)):
            await stack.enter_async_context(open_connector(world.settings(folder / f"{node}.db", node)))
        yield


@pytest.mark.parametrize("nodes", [1, 4])
async def test_a_whole_life_of_keys_is_included_once_and_decryptions_follow(
    nodes: int, anvil: Path, tmp_path: Path
) -> None:
    async with open_world(anvil, tmp_path, nodes=nodes) as world, connected(world, tmp_path):
        await Owner(world, generating=1.0).lead()  # time for each node to begin before three have ended
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
        await Owner(world, generating=0.3).lead()
        assert await read_key_replies(world, sender_key().address) == ALL
        assert len(mortal.deaths) == len(KINDS) * len(FATAL)
        nursery.cancel_scope.cancel()
