"""The owner on anvil whose contracts are upgraded to 0.15 while a key is made, and who migrates that key. Judges nothing."""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn.emulator.key_ceremonies import KEY
from kmsconn.emulator.key_life import ABORTED_PREP, ABORTED_REQUEST, MIGRATION_REQUEST
from tests.real.anvil import contracts
from tests.real.anvil.owner import FOR_EVER, Owner
from tests.real.anvil.placing import put_code


@attrs.define(eq=False)
class MigratingOwner(Owner):
    """The owner, in a world of threshold Cores."""

    async def lead(self) -> None:
        """Lead the whole life: an upgrade under way, a migration aborted and repeated, and what comes after it."""
        await self.announce()
        await self._generation("keygen", 0)
        await self.upgrade()
        await self._until(self._ask.generation.has_consensus(KEY))
        await self.make_crs()
        await self.abort_migration()
        await self.migrate()
        await self.change_context()
        await self.change_epoch()
        await self.abort_crs()
        await self.end()

    async def upgrade(self) -> None:
        """Let both contracts run their later releases."""
        at = self.world.at
        await put_code(self.world.ethereum, at.protocol_config, "LaterProtocolConfig")
        await put_code(self.world.ethereum, at.kms_generation, "MigratingGeneration", at.protocol_config)

    async def abort_migration(self) -> None:
        """Abort a migration that every Core works on."""
        await self._migrating("keygen", 0, KEY)
        await self._until(self._ask.generation.has_consensus(ABORTED_PREP))
        self._set_pace(FOR_EVER)
        request = ABORTED_REQUEST.to_bytes(32)
        await self._until_cores(lambda core: core.memory.at_work("key", request))
        self._set_pace(self.generating)
        await self._migrating("abortKeygen", ABORTED_PREP)
        await self._until_cores(lambda core: not core.memory.at_work("key", request))

    async def migrate(self) -> None:
        """Have the migration done under new ids."""
        await self._migrating("keygen", 0, KEY)
        await self._until(self._ask.generation.has_consensus(MIGRATION_REQUEST))

    async def _migrating(self, knob: str, *values: Any) -> None:
        call = contracts.turn("MigratingGeneration", knob, *values)
        await self.world.ethereum.owner.do((self.world.at.kms_generation, call))
