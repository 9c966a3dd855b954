"""The contracts KMSGeneration and ProtocolConfig on anvil as their owner uses them, and the life of keys that it leads there."""

from __future__ import annotations

from typing import TypeVar

import attrs
import trio

from kmsconn.emulator.contracts.protocol_config import Announcement
from kmsconn.emulator.key_ceremonies import KeyCeremonies, KeyCores, OwnedContracts, announcement_of
from kmsconn.protocols.fhevm.contracts import KeyViews
from kmsconn.protocols.queries import ContractQuery
from tests.real.anvil import contracts
from tests.real.anvil.contracts import ask_slot, put_code
from tests.real.anvil.ground_truth import PATIENCE
from tests.real.anvil.world import World, committee

T = TypeVar("T")

_OF_CONFIG = {"announce", "beginContext", "beginEpoch", "destroyEpoch", "destroyContext"}


@attrs.define(eq=False)
class AnvilContracts(OwnedContracts):
    """The contracts of a world; every context has the same nodes."""

    world: World
    _generation: str = "KMSGeneration"

    @property
    def views(self) -> KeyViews:
        at = self.world.at
        return KeyViews.at(self.world.ethereum.node.chain_id, at.kms_generation, at.protocol_config)

    def announced(self, *, first: bool = False) -> Announcement:
        del first
        return announcement_of(committee(len(self.world.cores)))

    async def do(self, function: str, *values: int | Announcement) -> None:
        at, of_config = self.world.at, function in _OF_CONFIG
        words = [part for one in values for part in (one.as_abi if isinstance(one, Announcement) else (one,))]
        call = contracts.turn("ProtocolConfig" if of_config else self._generation, function, *words)
        await self.world.ethereum.owner.do((at.protocol_config if of_config else at.kms_generation, call))

    async def upgrade(self) -> None:
        at, self._generation = self.world.at, "MigratingGeneration"
        await put_code(self.world.ethereum, at.protocol_config, "LaterProtocolConfig")
        await put_code(self.world.ethereum, at.kms_generation, self._generation, at.protocol_config)

    async def follow(self, context_id: int, epoch_id: int) -> None:
        del epoch_id
        call = contracts.gateway_context(context_id, committee(len(self.world.cores)))
        await self.world.gateway.owner.do((self.world.at.gateway_config, call))

    async def end_on_gateway(self, context_id: int) -> None:
        call = contracts.turn("GatewayConfig", "destroyContext", context_id)
        await self.world.gateway.owner.do((self.world.at.gateway_config, call))

    async def read(self, slot: ContractQuery[T]) -> T:
        return await ask_slot(self.world.ethereum.rpc, slot)

    async def wait_change(self) -> None:
        await trio.sleep(0.05)


async def lead(world: World, generating: float, *, migrates: bool = False) -> None:
    """Lead the whole life, ``generating`` seconds for what is not aborted. Raises TooSlowError for a step that does not end."""
    for core in world.cores:
        core.memory.generating = generating
    cores = KeyCores([[core] for core in world.cores], tuple(range(len(world.cores))), lambda: PATIENCE)
    for ceremony in KeyCeremonies(AnvilContracts(world), cores, migrates=migrates).by_name.values():
        with trio.fail_after(2 * PATIENCE):
            await ceremony()
