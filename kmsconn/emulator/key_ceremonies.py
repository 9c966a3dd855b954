"""The ceremonies of the owner of the two contracts on Ethereum, one function each. Judges nothing.

Each begins something and waits until the contracts and the Cores show what came of it. Source: fhevm-0.14.md, 1.3-1.5, 3.5-3.9.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

import attrs
import trio

from kmsconn.emulator.contracts import protocol_config as at
from kmsconn.emulator.contracts.gateway_config import Committee
from kmsconn.emulator.contracts.protocol_config import (
    FIRST_PREDECESSOR,
    Announcement,
    ContextState,
    EpochState,
    NodeParams,
    announce,
)
from kmsconn.emulator.core import EmulatedCore
from kmsconn.emulator.execution import Frame
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH, FhevmDependencies
from kmsconn.emulator.ground_truth import GroundTruth
from kmsconn.emulator.traffic import Traffic, naming
from kmsconn.ethereum.ids import CRS_TAG, KEY_TAG, PREP_KEYGEN_TAG, make_id
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


_FOR_EVER = 1e9  # seconds of a generation that will be aborted


@attrs.frozen
class KeyCores:
    """The Cores of all nodes; ``members`` are the nodes of the present committee."""

    dependencies: FhevmDependencies
    members: tuple[int, ...]

    @contextmanager
    def slow(self) -> Iterator[None]:
        """Let what begins within the block take for ever, so that it can be aborted under way."""
        before = {core: core.memory.generating for core in self._cores()}
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
        committee = [shards for node, shards in enumerate(self._nodes()) if node in self.members]
        return all(any(core.memory.at_work(kind, name) for core in shards) for shards in committee)

    def any_at_work(self, kind: str, identifier: int) -> bool:
        """Tell whether a Core works on something."""
        return self.any(lambda core: core.memory.at_work(kind, identifier.to_bytes(32)))

    def any(self, holds: Callable[[EmulatedCore], bool]) -> bool:
        """Tell whether something holds for one of the Cores."""
        return any(holds(core) for core in self._cores())

    def _nodes(self) -> list[list[EmulatedCore]]:
        """The shards of the Core of each node."""
        own = [shard.core for shard in self.dependencies.cores]
        return [own, *([faults.core] for faults in self.dependencies.others)]

    def _cores(self) -> list[EmulatedCore]:
        return [core for shards in self._nodes() for core in shards]


NEXT_CONTEXT, NEXT_EPOCH, LAST_EPOCH = CONTEXT + 1, EPOCH + 1, EPOCH + 2
"""The context that is gone over to, the epoch that comes with it, and the one made in it later."""
PREP, KEY, CRS = (make_id(tag, 1) for tag in (PREP_KEYGEN_TAG, KEY_TAG, CRS_TAG))


LATE_BLOCKS = 60
"""Blocks of Ethereum after which a Core that is not at work yet is not waited for."""
DEFAULT_PARAMS, TEST_PARAMS = 0, 1
"""The FHE parameters that a key or a CRS can be asked for with."""


def announcement_of(committee: Committee) -> Announcement:
    """Return what is announced of a context of this committee: its nodes are told places and numbers by their order."""
    nodes = (
        NodeParams(
            attrs.evolve(
                node,
                ip_address=node.ip_address or f"http://kms-{n}:50001",
                storage_url=node.storage_url or f"https://kms-{n}/public",
            ),
            n,
            f"kms-{n}",
        )
        for n, node in enumerate(committee.nodes, 1)
    )
    return Announcement(tuple(nodes), committee.thresholds)


@attrs.define(eq=False)
class KeyCeremonies:
    """The owner. ``incoming``: the nodes of the next context. ``traffic`` names that one once there is one.

    Nothing is destroyed before the decryptions that may name it are answered, as each of the ``ground_truths`` says.
    """

    dependencies: FhevmDependencies
    incoming: tuple[int, ...] = (0,)
    traffic: Traffic | None = None
    ground_truths: tuple[GroundTruth, ...] = ()
    params: int = DEFAULT_PARAMS
    """The FHE parameters of what is made."""
    contracts: KeyContracts = attrs.field(init=False)
    cores: KeyCores = attrs.field(init=False)
    _switched: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.contracts = KeyContracts(self.dependencies)
        self.cores = KeyCores(self.dependencies, self.incoming)

    @property
    def by_name(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """The ceremonies by name, in their order; with real Cores those whose end the contracts show."""
        shown: dict[str, Callable[[], Awaitable[None]]] = {
            "announcement": self.announce_first,
            "key": self.make_key,
            "CRS": self.make_crs,
            "context": self.change_context,
            "epoch": self.change_epoch,
        }
        if self.dependencies.real_cores:
            return shown
        return shown | {
            "abort of a key": self.abort_key,
            "abort of a CRS": self.abort_crs,
            "end of an epoch": self.end_epoch,
            "end of a context": self.end_context,
            "end on the Gateway": self.end_on_gateway,
        }

    async def announce_first(self) -> None:
        """Announce the first context, whose anchor the next one is reached by."""
        first = announcement_of(self.dependencies.committee)
        self.contracts.act_on_config(lambda frame: announce(frame, CONTEXT, FIRST_PREDECESSOR, first))
        await self.dependencies.ethereum.wait_change()

    async def make_key(self) -> None:
        """Have a key prepared and made."""
        generation = self.dependencies.kms_generation
        self.contracts.act_on_generation(lambda frame: generation.request_keygen(frame, self.params))
        await self.contracts.until(lambda: self.contracts.is_made(KEY))

    async def make_crs(self) -> None:
        """Have a CRS made."""
        generation = self.dependencies.kms_generation
        self.contracts.act_on_generation(lambda frame: generation.request_crsgen(frame, params=self.params))
        await self.contracts.until(lambda: self.contracts.is_made(CRS))

    async def change_context(self) -> None:
        """Go over to the next context and its first epoch; the Gateway follows once it is active."""
        config, following = (
            self.dependencies.protocol_config,
            announcement_of(self.dependencies.committee_of(self.incoming)),
        )
        self.contracts.act_on_config(lambda frame: config.begin_context(frame, following))
        await self.contracts.until(lambda: self.contracts.context_state(NEXT_CONTEXT) is ContextState.ACTIVE)
        await self._name(NEXT_CONTEXT, NEXT_EPOCH)

    async def change_epoch(self) -> None:
        """Have the keys reshared in a new epoch of that context."""
        self.contracts.act_on_config(self.dependencies.protocol_config.begin_epoch)
        await self.contracts.until(lambda: self.contracts.epoch_state(LAST_EPOCH) is EpochState.ACTIVE)
        await self._name(NEXT_CONTEXT, LAST_EPOCH)

    async def abort_key(self) -> None:
        """Begin another key, and abort it while every Core of the committee is at work on it."""
        generation = self.dependencies.kms_generation
        self.contracts.act_on_generation(generation.request_keygen)
        await self.contracts.until(lambda: self.contracts.is_made(PREP + 1))
        with self.cores.slow():
            await self.until_at_work("key", KEY + 1)
        self.contracts.act_on_generation(lambda frame: generation.abort_keygen(frame, PREP + 1))
        await self.contracts.until(
            lambda: self.contracts.is_over(KEY + 1) and not self.cores.any_at_work("key", KEY + 1)
        )

    async def abort_crs(self) -> None:
        """Begin another CRS, and abort it likewise."""
        generation = self.dependencies.kms_generation
        with self.cores.slow():
            self.contracts.act_on_generation(generation.request_crsgen)
            await self.until_at_work("crs", CRS + 1)
        self.contracts.act_on_generation(lambda frame: generation.abort_crsgen(frame, CRS + 1))
        await self.contracts.until(
            lambda: self.contracts.is_over(CRS + 1) and not self.cores.any_at_work("crs", CRS + 1)
        )

    async def until_at_work(self, kind: str, identifier: int) -> None:
        """Wait until every Core of the committee works on something, for some blocks: a node that came too late for it never will."""
        with trio.move_on_after(LATE_BLOCKS * self.dependencies.ethereum.block_time):
            await self.contracts.until(lambda: self.cores.at_work(kind, identifier))

    async def end_epoch(self) -> None:
        """Destroy the epoch before the present one, until no Core has it."""
        config = self.dependencies.protocol_config
        await self.contracts.until(self._settled)
        self.contracts.act_on_config(lambda frame: config.destroy_epoch(frame, NEXT_EPOCH))
        await self.contracts.until(
            lambda: not self.cores.any(lambda core: NEXT_EPOCH.to_bytes(32) in core.known.epochs)
        )

    async def end_context(self) -> None:
        """Destroy the first context, until no Core has it or its epoch."""
        config = self.dependencies.protocol_config
        await self.contracts.until(self._settled)
        self.contracts.act_on_config(lambda frame: config.destroy_context(frame, CONTEXT))
        ended = {CONTEXT.to_bytes(32), EPOCH.to_bytes(32)}
        await self.contracts.until(
            lambda: not self.cores.any(lambda core: bool(ended & (core.known.contexts | core.known.epochs)))
        )

    async def end_on_gateway(self) -> None:
        """Let the Gateway follow: it takes no request any more that names that context."""
        config, gateway = self.dependencies.gateway_config, self.dependencies.gateway
        gateway.actors.act(config.address, lambda frame: config.destroy_context(frame, CONTEXT))
        await gateway.wait_change()

    async def _name(self, context_id: int, epoch_id: int) -> None:
        """Let the Gateway have the context as its current one, and the users name it and the epoch."""
        config, committee = self.dependencies.gateway_config, self.dependencies.committee_of(self.incoming)
        gateway = self.dependencies.gateway
        gateway.actors.act(config.address, lambda frame: config.set_context(frame, context_id, committee))
        await gateway.wait_change()
        self._switched = gateway.head.number + 1  # what is queued already is mined in the next block
        if self.traffic is not None:
            _, both = naming(context_id, epoch_id)
            self.traffic.extra_data = (both,)  # where a request names none, the Core takes its default epoch

    def _settled(self) -> bool:
        """Tell whether no decryption of before the last change of names is open."""
        traces = (trace for followed in self.ground_truths for trace in followed.traces.values())
        return not any(trace.answer is None and trace.block <= self._switched for trace in traces)
