"""The owner of KMSGeneration and ProtocolConfig on anvil, who leads a life of keys. Judges nothing but what the contracts say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import trio

from kmsconn.emulator.contracts.protocol_config import FIRST_PREDECESSOR, Announcement
from kmsconn.emulator.core import EmulatedCore
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH
from kmsconn.emulator.key_ceremonies import (
    CRS,
    KEY,
    LAST_EPOCH,
    NEXT_CONTEXT,
    NEXT_EPOCH,
    PREP,
    announcement_of,
)
from kmsconn.protocols.fhevm.key_views import KeyViews, Standing
from kmsconn.protocols.queries import StorageRead
from tests.real.anvil import contracts
from tests.real.anvil.ground_truth import PATIENCE
from tests.real.anvil.slots import ask_slot
from tests.real.anvil.world import World, committee

FOR_EVER = 1e6  # seconds of a generation that will be aborted


@attrs.define(eq=False)
class Owner:
    """The owner, in a world of so many nodes."""

    world: World
    generating: float = 0.1
    """Seconds that a Core takes for what is not aborted."""

    def __attrs_post_init__(self) -> None:
        self._set_pace(self.generating)

    @property
    def announcement(self) -> Announcement:
        """Return what is announced of every context: the same nodes."""
        return announcement_of(committee(len(self.world.cores)))

    async def lead(self) -> None:
        """Lead the whole life."""
        await self.announce()
        await self.make_key()
        await self.make_crs()
        await self.change_context()
        await self.change_epoch()
        await self.abort_key()
        await self.abort_crs()
        await self.end()

    async def announce(self) -> None:
        """Announce the first context."""
        await self._config("announce", CONTEXT, FIRST_PREDECESSOR, *self.announcement.as_abi)

    async def make_key(self) -> None:
        """Have a key made."""
        await self._generation("keygen", 0)
        await self._until(self._ask.generation.has_consensus(KEY))

    async def make_crs(self) -> None:
        """Have a CRS made."""
        await self._generation("crsgenRequest", 2048, 0)
        await self._until(self._ask.generation.has_consensus(CRS))

    async def change_context(self) -> None:
        """Go over to a new context with its epoch; the Gateway follows."""
        await self._config("beginContext", *self.announcement.as_abi)
        await self._until(self._ask.config.context_standing(NEXT_CONTEXT), Standing.ACTIVE)
        members = committee(len(self.world.cores))
        gateway = self.world.gateway.owner
        await gateway.do((self.world.at.gateway_config, contracts.gateway_context(NEXT_CONTEXT, members)))

    async def change_epoch(self) -> None:
        """Reshare in the new context."""
        await self._config("beginEpoch")
        await self._until(self._ask.config.epoch_standing(LAST_EPOCH), Standing.CREATED)

    async def abort_key(self) -> None:
        """Abort a key that every Core works on."""
        await self._generation("keygen", 0)
        await self._until(self._ask.generation.has_consensus(PREP + 1))
        self._set_pace(FOR_EVER)
        await self._until_cores(lambda core: core.memory.at_work("key", (KEY + 1).to_bytes(32)))
        self._set_pace(self.generating)
        await self._generation("abortKeygen", PREP + 1)
        await self._until_cores(lambda core: not core.memory.at_work("key", (KEY + 1).to_bytes(32)))

    async def abort_crs(self) -> None:
        """Abort a CRS that every Core works on."""
        self._set_pace(FOR_EVER)
        await self._generation("crsgenRequest", 512, 1)
        await self._until_cores(lambda core: core.memory.at_work("crs", (CRS + 1).to_bytes(32)))
        self._set_pace(self.generating)
        await self._generation("abortCrsgen", CRS + 1)
        await self._until_cores(lambda core: not core.memory.at_work("crs", (CRS + 1).to_bytes(32)))

    async def end(self) -> None:
        """Destroy the first context and the epoch before the present one, until no Core has them."""
        await self._config("destroyEpoch", NEXT_EPOCH)
        await self._config("destroyContext", CONTEXT)
        gone = {one.to_bytes(32) for one in (NEXT_EPOCH, CONTEXT, EPOCH)}
        await self._until_cores(lambda core: not gone & (core.known.contexts | core.known.epochs))

    @property
    def _ask(self) -> KeyViews:
        at = self.world.at
        return KeyViews.at(self.world.ethereum.node.chain_id, at.kms_generation, at.protocol_config)

    def _set_pace(self, seconds: float) -> None:
        for core in self.world.cores:
            core.memory.generating = seconds

    async def _generation(self, knob: str, *values: Any) -> None:
        call = contracts.turn("KMSGeneration", knob, *values)
        await self.world.ethereum.owner.do((self.world.at.kms_generation, call))

    async def _config(self, knob: str, *values: Any) -> None:
        call = contracts.turn("ProtocolConfig", knob, *values)
        await self.world.ethereum.owner.do((self.world.at.protocol_config, call))

    async def _until(self, slot: StorageRead[Any], value: Any = True) -> None:
        with trio.fail_after(PATIENCE):
            while await ask_slot(self.world.ethereum.rpc, slot) != value:
                await trio.sleep(0.1)

    async def _until_cores(self, holds: Callable[[EmulatedCore], bool]) -> None:
        with trio.fail_after(PATIENCE):
            while not all(map(holds, self.world.cores)):  # noqa: ASYNC110 - there is nobody who would tell
                await trio.sleep(0.05)
