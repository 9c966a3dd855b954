"""What happens on the chains beside the requests: upgrades, other events, other transactions, no blocks, no funds."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import attrs
import trio

from kmsconn.emulator.contracts.decryption import DecryptionContract
from kmsconn.emulator.contracts.generation_releases import LATER_0_2, MIGRATING_0_3, TAGGED_0_2
from kmsconn.emulator.execution import Emitted, Frame
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.node_faults import NodeError
from kmsconn.ethereum.transactions import Eip1559Transaction, sign_transaction
from kmsconn.testing.world import World


@attrs.frozen
class Upgrade:
    """The contract tells of each request twice, as from 0.15 on; or ``only`` in the later form, which names handles only."""

    at: float
    only: bool = False

    async def play(self, world: World) -> None:
        """Let it be so from now on, for blocks that a reorganisation makes anew too."""
        await trio.lowlevel.checkpoint()
        decryption = world.dependencies.decryption
        if isinstance(decryption, DecryptionContract):  # the other generations have no such contract
            world.dependencies.gateway.evm.set_up(
                decryption.address, partial(decryption.emit_later_events, only=self.only)
            )


KEY_RELEASES = {"0.2.0": TAGGED_0_2, "later 0.2.0": LATER_0_2, "0.3.0": MIGRATING_0_3}
"""The releases of KMSGeneration by name."""


@attrs.frozen
class KeyUpgrade:
    """KMSGeneration runs another ``release`` from the next block on, whatever ceremony is open; ProtocolConfig knows its key types."""

    at: float
    release: str = "0.3.0"

    async def play(self, world: World) -> None:
        """Queue it for the next block of Ethereum."""
        await trio.lowlevel.checkpoint()
        dependencies, release = world.dependencies, KEY_RELEASES[self.release]
        if isinstance(dependencies, FhevmDependencies):  # the other generations have no such contract
            generation, config = dependencies.kms_generation, dependencies.protocol_config
            act = dependencies.ethereum.actors.act
            act(generation.address, lambda frame: generation.upgrade(frame, release))
            act(config.address, lambda frame: config.redeploy(frame, release.key_types))


@attrs.frozen
class Foreign:
    """Another process sends a transaction of our account, on the nonce that is next."""

    at: float

    async def play(self, world: World) -> None:
        """Sign and submit it; a node may refuse it."""
        await trio.lowlevel.checkpoint()
        chain, key = world.dependencies.gateway, world.dependencies.sender
        transaction = Eip1559Transaction(
            chain_id=chain.chain_id,
            nonce=chain.intake.pending_nonce(key.address),
            max_priority_fee=1,
            max_fee=10**10,
            gas=100_000,
            to=key.address,
            value=0,
            data=b"",
        )
        raw, _ = sign_transaction(transaction, key)
        with suppress(NodeError):
            chain.intake.submit(raw)


@attrs.frozen
class StrangeLog:
    """The contract for decryptions logs something under a known topic that nobody can read."""

    at: float

    async def play(self, world: World) -> None:
        """Queue it for the next block."""
        await trio.lowlevel.checkpoint()
        dependencies = world.dependencies
        topic0 = next(iter(dependencies.generation_events.requests))
        dependencies.gateway.actors.act(dependencies.decryption.address, partial(_log_nonsense, topic0))


def _log_nonsense(topic0: bytes, frame: Frame) -> None:
    frame.logs.append(Emitted(frame.address, (topic0, bytes(32)), b"\xff" * 31))
