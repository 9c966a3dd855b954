"""The ceremonies of the owner of the two contracts on Ethereum, one method each, on whichever chain they are. Judges nothing.

Each begins something and waits until the contracts and the Cores show what came of it. In those of a migration the contracts are upgraded
to 0.15 in mid-ceremony: a key is asked for on KMSGeneration 0.2.0 and made on 0.3.0; its migration is aborted, begun anew, and done.
A migration needs threshold Cores. Source: fhevm-0.14.md, 1.3-1.5, 3.5-3.9; fhevm-0.15.md, 1.3 to 1.9.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import attrs
import trio

from kmsconn.emulator.contracts.gateway_config import Committee
from kmsconn.emulator.contracts.generation_releases import MIGRATING_0_3, GenerationRelease
from kmsconn.emulator.contracts.protocol_config import FIRST_PREDECESSOR, Announcement, NodeParams, announce
from kmsconn.emulator.core import EmulatedCore
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH, FhevmDependencies, Traffic, naming
from kmsconn.emulator.ground_truth import GroundTruth
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import CRS_TAG, KEY_TAG, PREP_KEYGEN_TAG, make_id
from kmsconn.protocols.fhevm.contracts import KeyViews, Standing
from kmsconn.protocols.queries import ContractQuery

T = TypeVar("T")

NEXT_CONTEXT, NEXT_EPOCH, LAST_EPOCH = CONTEXT + 1, EPOCH + 1, EPOCH + 2
"""The context that is gone over to, the epoch that comes with it, and the one made in it later."""
PREP, KEY, CRS = (make_id(tag, 1) for tag in (PREP_KEYGEN_TAG, KEY_TAG, CRS_TAG))
ABORTED_PREP, ABORTED_REQUEST, ABORTED_CRS = PREP + 1, KEY + 1, CRS + 1
"""The ids of what is aborted: another key, or a migration."""
MIGRATION_PREP, MIGRATION_REQUEST = PREP + 2, KEY + 2
"""The ids of the migration that is done; the second one is no key."""
LATE_BLOCKS = 60
"""Blocks of Ethereum after which a Core that is not at work yet is not waited for."""
DEFAULT_PARAMS, TEST_PARAMS = 0, 1
"""The FHE parameters that a key or a CRS can be asked for with."""
_CRS_BITS = 2048
_FOR_EVER = 1e9  # seconds of a generation that will be aborted


class OwnedContracts(ABC):
    """``KMSGeneration`` and ``ProtocolConfig`` as their owner uses them, and the Gateway that follows. What is called for is mined."""

    @property
    @abstractmethod
    def views(self) -> KeyViews:
        """Questions to the contracts."""

    @abstractmethod
    def announced(self, *, first: bool = False) -> Announcement:
        """Return what is announced of the next context, or of the first."""

    @abstractmethod
    async def do(self, function: str, *values: int | Announcement) -> None:
        """Call a function of one of the two contracts that only its owner may."""

    @abstractmethod
    async def upgrade(self) -> None:
        """Let both contracts run their later releases."""

    @abstractmethod
    async def follow(self, context_id: int, epoch_id: int) -> None:
        """Let the Gateway have the context as its current one, and the users name it and the epoch."""

    @abstractmethod
    async def end_on_gateway(self, context_id: int) -> None:
        """Let the Gateway take no request any more that names that context."""

    @abstractmethod
    async def read(self, slot: ContractQuery[T]) -> T:
        """Return what a slot holds now."""

    @abstractmethod
    async def wait_change(self) -> None:
        """Wait until something may have changed."""

    async def wait_settled(self) -> None:
        """Wait until no decryption is open that may name what is destroyed next."""
        await trio.lowlevel.checkpoint()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        while not holds():
            await self.wait_change()

    async def until_told(self, slot: ContractQuery[Any], value: object = True) -> None:
        """Wait until a slot holds this value."""
        while await self.read(slot) != value:
            await self.wait_change()

    async def until_made(self, identifier: int) -> None:
        """Wait until a preparation, key or CRS has consensus."""
        await self.until_told(self.views.generation.has_consensus(identifier))


@attrs.define(eq=False)
class EmulatedContracts(OwnedContracts):
    """The contracts of emulated dependencies. ``incoming``: the nodes of the next context. ``traffic`` names that one once there is one.

    Nothing is destroyed before the decryptions that may name it are answered, as each of the ``ground_truths`` says.
    """

    dependencies: FhevmDependencies
    incoming: tuple[int, ...] = (0,)
    traffic: Traffic | None = None
    ground_truths: tuple[GroundTruth, ...] = ()
    release: GenerationRelease = MIGRATING_0_3
    """What KMSGeneration is upgraded to."""
    _switched: int = attrs.field(default=0, init=False)

    @property
    def views(self) -> KeyViews:
        """Questions to the contracts."""
        ours = self.dependencies
        return KeyViews.at(ours.ethereum.chain_id, ours.kms_generation.address, ours.protocol_config.address)

    def announced(self, *, first: bool = False) -> Announcement:
        """Return what is announced of the next context, or of the first."""
        ours = self.dependencies
        return announcement_of(ours.committee if first else ours.committee_of(self.incoming))

    async def do(self, function: str, *values: int | Announcement) -> None:
        """Act in the next block."""
        generation, config = self.dependencies.kms_generation, self.dependencies.protocol_config
        acts: dict[str, tuple[Address, Callable[..., object]]] = {
            "keygen": (generation.address, generation.request_keygen),
            "crsgenRequest": (generation.address, generation.request_crsgen),
            "abortKeygen": (generation.address, generation.abort_keygen),
            "abortCrsgen": (generation.address, generation.abort_crsgen),
            "announce": (config.address, announce),
            "beginContext": (config.address, config.begin_context),
            "beginEpoch": (config.address, config.begin_epoch),
            "destroyEpoch": (config.address, config.destroy_epoch),
            "destroyContext": (config.address, config.destroy_context),
        }
        contract, act = acts[function]
        self.dependencies.ethereum.actors.act(contract, lambda frame: act(frame, *values))
        await self.wait_change()

    async def upgrade(self) -> None:
        """Upgrade KMSGeneration in the next block, and ProtocolConfig with the key types that come with it."""
        ours, act = self.dependencies, self.dependencies.ethereum.actors.act
        act(ours.kms_generation.address, lambda frame: ours.kms_generation.upgrade(frame, self.release))
        key_types = self.release.key_types
        act(ours.protocol_config.address, lambda frame: ours.protocol_config.redeploy(frame, key_types))
        await self.wait_change()

    async def follow(self, context_id: int, epoch_id: int) -> None:
        """Change both in the next block of the Gateway."""
        config, gateway = self.dependencies.gateway_config, self.dependencies.gateway
        committee = self.dependencies.committee_of(self.incoming)
        gateway.actors.act(config.address, lambda frame: config.set_context(frame, context_id, committee))
        await gateway.wait_change()
        self._switched = gateway.head.number + 1  # what is queued already is mined in the next block
        if self.traffic is not None:
            _, both = naming(context_id, epoch_id)
            self.traffic.extra_data = (both,)  # where a request names none, the Core takes its default epoch

    async def end_on_gateway(self, context_id: int) -> None:
        """Act in the next block of the Gateway."""
        config, gateway = self.dependencies.gateway_config, self.dependencies.gateway
        gateway.actors.act(config.address, lambda frame: config.destroy_context(frame, context_id))
        await gateway.wait_change()

    async def read(self, slot: ContractQuery[T]) -> T:
        """Look into the state."""
        await trio.lowlevel.checkpoint()
        word = int(self.dependencies.ethereum.evm.state.get((slot.to, int(slot.parameters[1], 16)), 0))
        return slot.understand(word.to_bytes(32))

    async def wait_change(self) -> None:
        """Wait for the next block of Ethereum."""
        await self.dependencies.ethereum.wait_change()

    async def wait_settled(self) -> None:
        """Wait until no decryption of before the last change of names is open."""
        await self.until(lambda: not any(map(self._is_open, self.ground_truths)))

    def _is_open(self, followed: GroundTruth) -> bool:
        """Tell whether a decryption of before the last change of names is open."""
        return any(one.answer is None and one.block <= self._switched for one in followed.traces.values())


@attrs.frozen
class KeyCores:
    """The Cores of all nodes, the shards of each; ``members`` are the nodes of the present committee."""

    nodes: Sequence[Sequence[EmulatedCore]]
    members: tuple[int, ...]
    late: Callable[[], float]
    """Seconds after which one that is not at work yet is not waited for."""

    @contextmanager
    def slow(self) -> Iterator[None]:
        """Let what begins within the block take for ever, so that it can be aborted under way."""
        before = {core: core.memory.generating for shards in self.nodes for core in shards}
        try:
            for core in before:
                core.memory.generating = _FOR_EVER
            yield
        finally:
            for core, seconds in before.items():
                core.memory.generating = seconds

    def at_work(self, kind: str, identifier: int) -> bool:
        """Tell whether every Core of the present committee works on something."""
        name = identifier.to_bytes(32)
        committee = [self.nodes[node] for node in self.members]
        return all(any(core.memory.at_work(kind, name) for core in shards) for shards in committee)

    def any(self, holds: Callable[[EmulatedCore], bool]) -> bool:
        """Tell whether something holds for one of the Cores."""
        return any(holds(core) for shards in self.nodes for core in shards)


def announcement_of(committee: Committee) -> Announcement:
    """Return what is announced of a context of this committee: its nodes are told places and numbers by their order."""
    nodes = []
    for n, node in enumerate(committee.nodes, 1):
        place, storage = (
            node.ip_address or f"http://kms-{n}:50001",
            node.storage_url or f"https://kms-{n}/public",
        )
        nodes.append(NodeParams(attrs.evolve(node, ip_address=place, storage_url=storage), n, f"kms-{n}"))
    return Announcement(tuple(nodes), committee.thresholds)


@attrs.define(eq=False)
class KeyCeremonies:
    """The owner."""

    contracts: OwnedContracts
    cores: KeyCores
    params: int = DEFAULT_PARAMS
    """The FHE parameters of what is made."""

    migrates: bool = False
    """Whether the contracts are upgraded under way, and the key migrated: for threshold Cores."""

    @property
    def by_name(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """The ceremonies by name, in their order; with real Cores those whose end the contracts show."""
        shown: dict[str, Callable[[], Awaitable[None]]] = {
            "announcement": self.announce_first,
            "key across an upgrade" if self.migrates else "key": self.make_key,
            "CRS": self.make_crs,
        }
        if self.migrates:
            shown |= {"abort of a migration": partial(self.abort_key, KEY), "migration": self.migrate}
        shown |= {"context": self.change_context, "epoch": self.change_epoch}
        aborts = {} if self.migrates else {"abort of a key": self.abort_key}
        hidden = {
            **aborts,
            "abort of a CRS": self.abort_crs,
            "end of an epoch": self.end_epoch,
            "end of a context": self.end_context,
            "end on the Gateway": self.end_on_gateway,
        }
        return shown | hidden if any(self.cores.nodes) else shown

    async def announce_first(self) -> None:
        """Announce the first context, whose anchor the next one is reached by."""
        await self.contracts.do("announce", CONTEXT, FIRST_PREDECESSOR, self.contracts.announced(first=True))

    async def make_key(self) -> None:
        """Have a key prepared and made; before a migration, the contracts are upgraded before anybody has replied."""
        await self.contracts.do("keygen", self.params)
        if self.migrates:
            await self.contracts.upgrade()
        await self.contracts.until_made(KEY)

    async def make_crs(self) -> None:
        """Have a CRS made."""
        await self.contracts.do("crsgenRequest", _CRS_BITS, self.params)
        await self.contracts.until_made(CRS)

    async def change_context(self) -> None:
        """Go over to the next context and its first epoch; the Gateway follows once it is active."""
        await self.contracts.do("beginContext", self.contracts.announced())
        standing = self.contracts.views.config.context_standing(NEXT_CONTEXT)
        await self.contracts.until_told(standing, Standing.ACTIVE)
        await self.contracts.follow(NEXT_CONTEXT, NEXT_EPOCH)

    async def change_epoch(self) -> None:
        """Have the keys reshared in a new epoch of that context."""
        await self.contracts.do("beginEpoch")
        standing = self.contracts.views.config.epoch_standing(LAST_EPOCH)
        await self.contracts.until_told(standing, Standing.CREATED)
        await self.contracts.follow(NEXT_CONTEXT, LAST_EPOCH)

    async def abort_key(self, *existing: int) -> None:
        """Begin another key, or the migration of one, and abort it while every Core of the committee is at work on it."""
        await self.contracts.do("keygen", self.params, *existing)
        await self.contracts.until_made(ABORTED_PREP)
        with self.cores.slow():
            await self.until_at_work("key", ABORTED_REQUEST)
        await self.contracts.do("abortKeygen", ABORTED_PREP)
        await self._until_aborted("key", ABORTED_REQUEST)

    async def abort_crs(self) -> None:
        """Begin another CRS, and abort it likewise."""
        with self.cores.slow():
            await self.contracts.do("crsgenRequest", _CRS_BITS, self.params)
            await self.until_at_work("crs", ABORTED_CRS)
        await self.contracts.do("abortCrsgen", ABORTED_CRS)
        await self._until_aborted("crs", ABORTED_CRS)

    async def until_at_work(self, kind: str, identifier: int) -> None:
        """Wait until every Core of the committee works on something, for a while: a node that came too late for it never will."""
        with trio.move_on_after(self.cores.late()):
            await self.contracts.until(lambda: self.cores.at_work(kind, identifier))

    async def _until_aborted(self, kind: str, identifier: int) -> None:
        await self.contracts.until_told(self.contracts.views.generation.is_over(identifier))
        name = identifier.to_bytes(32)
        await self.contracts.until(lambda: not self.cores.any(lambda core: core.memory.at_work(kind, name)))

    async def end_epoch(self) -> None:
        """Destroy the epoch before the present one, until no Core has it."""
        await self.contracts.wait_settled()
        await self.contracts.do("destroyEpoch", NEXT_EPOCH)
        await self._until_gone(NEXT_EPOCH)

    async def end_context(self) -> None:
        """Destroy the first context, until no Core has it or its epoch."""
        await self.contracts.wait_settled()
        await self.contracts.do("destroyContext", CONTEXT)
        await self._until_gone(CONTEXT, EPOCH)

    async def _until_gone(self, *identifiers: int) -> None:
        gone = {one.to_bytes(32) for one in identifiers}
        await self.contracts.until(
            lambda: not self.cores.any(lambda core: bool(gone & (core.known.contexts | core.known.epochs)))
        )

    async def end_on_gateway(self) -> None:
        """Let the Gateway follow."""
        await self.contracts.end_on_gateway(CONTEXT)

    async def migrate(self) -> None:
        """Begin the migration of a key anew, under new ids, and have it done."""
        await self.contracts.do("keygen", self.params, KEY)
        await self.contracts.until_made(MIGRATION_REQUEST)


def owner_of(
    dependencies: FhevmDependencies,
    incoming: tuple[int, ...] = (0,),
    traffic: Traffic | None = None,
    ground_truths: tuple[GroundTruth, ...] = (),
    params: int = DEFAULT_PARAMS,
    *,
    migrates: bool = False,
) -> KeyCeremonies:
    """Return the owner of emulated contracts; see `EmulatedContracts`."""
    own = [shard.core for shard in dependencies.cores]
    nodes = (own, *([faults.core] for faults in dependencies.others))
    cores = KeyCores(nodes, incoming, lambda: LATE_BLOCKS * dependencies.ethereum.block_time)
    contracts = EmulatedContracts(dependencies, incoming, traffic, ground_truths)
    return KeyCeremonies(contracts, cores, params, migrates)
