"""What users and owners ask, rights that come late, and what else happens on the chains: upgrades, events, transactions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs
import trio

from kmsconn.emulator.contracts.acl import Acl
from kmsconn.emulator.contracts.decryption import DecryptionContract, unheard_of_request
from kmsconn.emulator.contracts.generation_releases import LATER_0_2, MIGRATING_0_3, TAGGED_0_2
from kmsconn.emulator.contracts.kms_generation import KEY_TAG, KmsGeneration
from kmsconn.emulator.dependencies import address_for, key_for
from kmsconn.emulator.drills.chain_drills import transact
from kmsconn.emulator.execution import Emitted, Frame
from kmsconn.emulator.fhevm_dependencies import APP, FhevmDependencies
from kmsconn.emulator.key_ceremonies import EmulatedContracts
from kmsconn.ethereum.addresses import Address
from kmsconn.protocols.fhevm.profile import EVENTS
from kmsconn.testing.ground_truth import requests_of
from kmsconn.testing.http_clients import POSTED_FORMS
from kmsconn.testing.world import World


@attrs.frozen
class Ask:
    """Users request ``count`` decryptions of a form (``any``: drawn); without ``granted`` the host chain denies them."""

    at: float
    form: str = "any"
    count: int = 1
    granted: bool = True

    async def play(self, world: World) -> None:
        """Queue them for the next block."""
        await trio.lowlevel.checkpoint()
        world.traffic.granted = self.granted
        for _ in range(self.count):
            (world.traffic.any if self.form == "any" else world.traffic.forms[self.form])()


ETHEREUM_PACE, ETHEREUM_FINALITY = 2.0, 2
"""Of worlds with keys: seconds between the blocks of Ethereum, and blocks until one is final."""


@attrs.frozen
class Post:
    """Clients ask for ``count`` decryptions of a form over HTTP (``any``: drawn), and repeat their requests until they have answers."""

    at: float
    form: str = "any"
    count: int = 1

    async def play(self, world: World) -> None:
        """Let them begin."""
        await trio.lowlevel.checkpoint()
        world.traffic.granted = True
        for _ in range(self.count):
            form = world.process.random.choice(POSTED_FORMS) if self.form == "any" else self.form
            world.clients.post(world.traffic.prepare(form))


@attrs.frozen
class AskKey:
    """The owner asks for a key, or, if it ``migrates``, for the migration of the one that is in use. Refused while another is open.

    Ethereum is quick from then on: a ceremony takes half a minute, and not half an hour.
    """

    at: float
    migrates: bool = False

    async def play(self, world: World) -> None:
        """Queue it for the next block of Ethereum."""
        await trio.lowlevel.checkpoint()
        dependencies = world.dependencies
        if isinstance(dependencies, FhevmDependencies):  # the first generation asks its KeyManager
            ethereum, generation = dependencies.ethereum, dependencies.kms_generation
            ethereum.block_time, ethereum.finality.depth = ETHEREUM_PACE, ETHEREUM_FINALITY
            ask = partial(_ask_key, generation, self.migrates)
            ethereum.actors.act(generation.address, ask)


def _ask_key(generation: KmsGeneration, migrates: bool, frame: Frame) -> None:
    active = frame.read("active", KEY_TAG, default=0)
    generation.request_keygen(frame, existing=active if migrates else 0)


@attrs.frozen
class Wait:
    """Nothing: the dependencies are not healed before this moment."""

    at: float

    async def play(self, world: World) -> None:
        """Pass."""
        del world
        await trio.lowlevel.checkpoint()


@attrs.frozen
class Grant:
    """The host chain of fhevm gives every right that it denied to requests so far."""

    at: float

    async def play(self, world: World) -> None:
        """Give them."""
        await trio.lowlevel.checkpoint()
        dependencies = world.dependencies
        assert isinstance(dependencies, FhevmDependencies), "no other generation has a host chain"
        users = [APP, address_for("wallet"), key_for("user").address, key_for("owner").address]
        for log in requests_of(dependencies):
            content = EVENTS.decode(log)
            for material in () if content is None else content.references:
                dependencies.host.evm.set_up(
                    dependencies.acl.address, partial(_grant, dependencies.acl, material.handle, users)
                )


def _grant(acl: Acl, handle: bytes, users: Sequence[Address], frame: Frame) -> None:
    acl.allow_for_decryption(frame, handle)
    for user in users:
        acl.allow(frame, handle, user)


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
                decryption.address, decryption.emit_later_events, only=self.only
            )


@attrs.frozen
class AskUnheardOf:
    """Users request ``count`` decryptions in a form that no version of a connector knows."""

    at: float
    count: int = 1

    async def play(self, world: World) -> None:
        """Queue them for the next block."""
        await trio.lowlevel.checkpoint()
        decryption = world.dependencies.decryption
        if isinstance(decryption, DecryptionContract):  # the other generations have no such contract
            for _ in range(self.count):
                world.dependencies.gateway.actors.act(decryption.address, unheard_of_request)


KEY_RELEASES = {"0.2.0": TAGGED_0_2, "later 0.2.0": LATER_0_2, "0.3.0": MIGRATING_0_3}
"""The releases of KMSGeneration by name."""


@attrs.frozen
class KeyUpgrade:
    """KMSGeneration runs another ``release`` from the next block on, whatever ceremony is open; ProtocolConfig knows its key types."""

    at: float
    release: str = "0.3.0"

    async def play(self, world: World) -> None:
        """Let it be so in the next block of Ethereum."""
        await trio.lowlevel.checkpoint()
        if isinstance(world.dependencies, FhevmDependencies):  # the other generations have no such contract
            await EmulatedContracts(world.dependencies, release=KEY_RELEASES[self.release]).upgrade()


@attrs.frozen
class Foreign:
    """Another process sends a transaction of our account, on the nonce that is next."""

    at: float

    async def play(self, world: World) -> None:
        """Sign and submit it; a node may refuse it."""
        await trio.lowlevel.checkpoint()
        sender = world.dependencies.sender
        transact(world.dependencies.gateway, sender, sender.address)


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
