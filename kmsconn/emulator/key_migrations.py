"""The ceremonies of an owner whose contracts are upgraded to 0.15 in mid-ceremony, and who migrates the key. Judges nothing.

The key is asked for on KMSGeneration 0.2.0 and made on 0.3.0; its migration is aborted, begun anew, and done. A migration needs threshold
Cores. Source: fhevm-0.15.md, 1.3 to 1.9.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import attrs

from kmsconn.emulator.contracts.generation_releases import MIGRATING_0_3, GenerationRelease
from kmsconn.emulator.key_ceremonies import KEY, PREP, KeyCeremonies

ABORTED_PREP, ABORTED_REQUEST = PREP + 1, KEY + 1
"""The ids of the migration that is aborted."""
MIGRATION_PREP, MIGRATION_REQUEST = PREP + 2, KEY + 2
"""The ids of the migration that is done; the second one is no key."""


@attrs.frozen
class KeyMigrations:
    """The same owner as in ``ceremonies``, with an upgrade and a migration in the place of the aborts."""

    ceremonies: KeyCeremonies
    release: GenerationRelease = MIGRATING_0_3
    """What KMSGeneration is upgraded to."""

    @property
    def by_name(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """The ceremonies by name, in their order."""
        owner = self.ceremonies
        return {
            "announcement": owner.announce_first,
            "key across an upgrade": self.make_key,
            "CRS": owner.make_crs,
            "abort of a migration": self.abort_migration,
            "migration": self.migrate,
            "context": owner.change_context,
            "epoch": owner.change_epoch,
            "abort of a CRS": owner.abort_crs,
            "end of an epoch": owner.end_epoch,
            "end of a context": owner.end_context,
            "end on the Gateway": owner.end_on_gateway,
        }

    async def make_key(self) -> None:
        """Have a key prepared, upgrade the contracts before anybody has replied, and have it made."""
        contracts, generation = self.ceremonies.contracts, self.ceremonies.dependencies.kms_generation
        contracts.act_on_generation(lambda frame: generation.request_keygen(frame, self.ceremonies.params))
        await self.ceremonies.dependencies.ethereum.wait_change()
        self.upgrade()
        await contracts.until(lambda: contracts.is_made(KEY))

    def upgrade(self) -> None:
        """Upgrade KMSGeneration in the next block, and ProtocolConfig with the key types that come with it."""
        contracts, dependencies = self.ceremonies.contracts, self.ceremonies.dependencies
        generation, config = dependencies.kms_generation, dependencies.protocol_config
        contracts.act_on_generation(lambda frame: generation.upgrade(frame, self.release))
        contracts.act_on_config(lambda frame: config.redeploy(frame, self.release.key_types))

    async def abort_migration(self) -> None:
        """Begin a migration, and abort it while every Core of the committee is at work on it."""
        contracts, cores = self.ceremonies.contracts, self.ceremonies.cores
        generation = self.ceremonies.dependencies.kms_generation
        self._ask_migration()
        await contracts.until(lambda: contracts.is_made(ABORTED_PREP))
        with cores.slow():
            await self.ceremonies.until_at_work("key", ABORTED_REQUEST)
        contracts.act_on_generation(lambda frame: generation.abort_keygen(frame, ABORTED_PREP))
        await contracts.until(
            lambda: contracts.is_over(ABORTED_REQUEST) and not cores.any_at_work("key", ABORTED_REQUEST)
        )

    async def migrate(self) -> None:
        """Begin the migration anew, under new ids, and have it done."""
        self._ask_migration()
        contracts = self.ceremonies.contracts
        await contracts.until(lambda: contracts.is_made(MIGRATION_REQUEST))

    def _ask_migration(self) -> None:
        generation, params = self.ceremonies.dependencies.kms_generation, self.ceremonies.params
        self.ceremonies.contracts.act_on_generation(
            lambda frame: generation.request_keygen(frame, params, KEY)
        )
