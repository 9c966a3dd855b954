"""What the two contracts on Ethereum show of keys, contexts and epochs, and what their owner does at them. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kmsconn.emulator.contracts import protocol_slots as at
from kmsconn.emulator.contracts.protocol_slots import ContextState, EpochState
from kmsconn.emulator.execution import Frame
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.protocols.fhevm.key_views import GENERATION_BASE
from kmsconn.protocols.queries import mapping_slot

_DONE, _CONSENSUS = GENERATION_BASE + 1, GENERATION_BASE + 3
Action = Callable[[Frame], object]


@attrs.frozen
class KeyContracts:
    """``KMSGeneration`` and ``ProtocolConfig`` as their owner uses them."""

    dependencies: FhevmDependencies

    def act_on_generation(self, action: Action) -> None:
        """Do something at ``KMSGeneration`` in the next block."""
        self.dependencies.ethereum.actors.act(self.dependencies.kms_generation.address, action)

    def act_on_config(self, action: Action) -> None:
        """Do something at ``ProtocolConfig`` in the next block."""
        self.dependencies.ethereum.actors.act(self.dependencies.protocol_config.address, action)

    def is_made(self, identifier: int) -> bool:
        """Tell whether a preparation, key or CRS has consensus."""
        return self._generation_word(_CONSENSUS, identifier) != 0

    def is_over(self, identifier: int) -> bool:
        """Tell whether a request is done or aborted."""
        return self._generation_word(_DONE, identifier) != 0

    def context_state(self, context_id: int) -> ContextState:
        """Return the state of a context."""
        return ContextState(self._config_word(at.CONTEXT_STATE, context_id))

    def epoch_state(self, epoch_id: int) -> EpochState:
        """Return the state of an epoch."""
        return EpochState(self._config_word(at.EPOCH_STATE, epoch_id))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; asked again at each block of Ethereum."""
        while not holds():
            await self.dependencies.ethereum.wait_change()

    def _generation_word(self, base: int, key: int) -> int:
        slot = mapping_slot(base, key)
        return int(
            self.dependencies.ethereum.evm.state.get((self.dependencies.kms_generation.address, slot), 0)
        )

    def _config_word(self, base: int, key: int) -> int:
        slot = mapping_slot(base, key)
        return int(
            self.dependencies.ethereum.evm.state.get((self.dependencies.protocol_config.address, slot), 0)
        )
