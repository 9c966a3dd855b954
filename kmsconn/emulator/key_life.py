"""A life of keys, as the owner of the two contracts on Ethereum leads it: from the first key to the end of its context. Judges nothing.

Each step begins something and waits until the contracts and the Cores show what came of it. Source: fhevm-0.14.md, 1.3-1.5, 3.5-3.9.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import trio

from kmsconn.emulator.contracts import protocol_slots as at
from kmsconn.emulator.contracts.ceremonies import FIRST_PREDECESSOR, Announcement, NodeParams, announce
from kmsconn.emulator.contracts.gateway_config import Committee
from kmsconn.emulator.contracts.protocol_slots import ContextState, EpochState
from kmsconn.emulator.core import EmulatedCore
from kmsconn.emulator.execution import Frame
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH, FhevmDependencies, committee_of
from kmsconn.emulator.ground_truth import GroundTruth
from kmsconn.emulator.key_verdict import KeyVerdict, read_keys
from kmsconn.emulator.traffic import Traffic, naming
from kmsconn.ethereum.ids import CRS_TAG, KEY_TAG, PREP_KEYGEN_TAG, make_id
from kmsconn.protocols.fhevm_014.key_views import GENERATION_BASE
from kmsconn.protocols.storage import mapping_slot

NEXT_CONTEXT, NEXT_EPOCH, LAST_EPOCH = CONTEXT + 1, EPOCH + 1, EPOCH + 2
"""The context that is gone over to, the epoch that comes with it, and the one made in it later."""
PREP, KEY, CRS = (make_id(tag, 1) for tag in (PREP_KEYGEN_TAG, KEY_TAG, CRS_TAG))
_DONE, _CONSENSUS = GENERATION_BASE + 1, GENERATION_BASE + 3
PACE, FINALITY, GENERATING = 0.5, 2, 1.0
"""Of a life beside a load: seconds between the blocks of Ethereum, blocks until one is final, seconds of a Core for what it makes."""
QUICK: dict[str, Any] = {"kms_operation_from_block_number": 0, "key_management_polling": PACE}
"""The settings of a connector that follows such a life."""
KEY_STEP_TIMEOUT = 180.0
_FOR_EVER = 1e9  # seconds of a generation that will be aborted


def announcement_of(committee: Committee) -> Announcement:
    """Return what is announced of a context of this committee: its nodes are told places and numbers by their order."""
    nodes = (
        NodeParams(
            attrs.evolve(node, ip_address=f"http://kms-{n}:50001", storage_url=f"https://kms-{n}/public"),
            n,
            f"kms-{n}",
        )
        for n, node in enumerate(committee.nodes, 1)
    )
    return Announcement(tuple(nodes), committee.thresholds)


@attrs.frozen
class KeyResult:
    """What came of a life of keys: what Ethereum says of the node, and which of all ``steps`` were taken."""

    verdict: KeyVerdict
    done: tuple[str, ...]
    steps: int

    @property
    def well(self) -> bool:
        """Every step was taken, every reply given, and none twice."""
        return len(self.done) == self.steps and self.verdict.well


@attrs.define(eq=False)
class KeyLife:
    """The owner, and how far it is. ``incoming``: the nodes of the next context. ``traffic`` names that one once there is one.

    With an ``ground_truth`` nothing is destroyed before the decryptions that may name it are answered.
    """

    dependencies: FhevmDependencies
    incoming: tuple[int, ...] = (0,)
    traffic: Traffic | None = None
    ground_truth: GroundTruth | None = None
    doing: str = ""
    """The step that is under way."""
    done: list[str] = attrs.field(factory=list)
    _switched: int = 0

    @classmethod
    def beside(cls, traffic: Traffic, ground_truth: GroundTruth) -> KeyLife:
        """Return one that takes half a minute beside a load: Ethereum is made quick, and each Core takes a second for a key.

        Its users name a context: what names none is lost when it is answered across a change of it (6.2, annex A).
        """
        dependencies = traffic.dependencies
        dependencies.ethereum.block_time, dependencies.ethereum.finality = PACE, FINALITY
        for core in dependencies.cores:
            core.core.generating = GENERATING
        traffic.extra_data = naming(CONTEXT, EPOCH)
        return cls(dependencies, traffic=traffic, ground_truth=ground_truth)

    @property
    def steps(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """The steps by name, in their order."""
        return {
            "announcement": self.announce_first,
            "key": self.make_key,
            "CRS": self.make_crs,
            "context": self.change_context,
            "epoch": self.change_epoch,
            "abort of a key": self.abort_key,
            "abort of a CRS": self.abort_crs,
            "end of an epoch": self.end_epoch,
            "end of a context": self.end_context,
            "end on the Gateway": self.end_on_gateway,
        }

    async def play(self) -> None:
        """Take all steps. Cancellation: at any time; ``done`` says how far it came."""
        for name, step in self.steps.items():
            self.doing = name
            await step()
            self.done.append(name)
        self.doing = ""

    async def lead(self, patience: float = KEY_STEP_TIMEOUT) -> None:
        """Take all steps, but for so many seconds only. Cancellation: at any time."""
        with trio.move_on_after(patience):
            await self.play()

    def result(self) -> KeyResult:
        """Return what came of it so far."""
        verdict = read_keys(self.dependencies, self.dependencies.sender.address)
        return KeyResult(verdict, tuple(self.done), len(self.steps))

    async def announce_first(self) -> None:
        """Announce the first context, whose anchor the next one is reached by."""
        first = announcement_of(self.dependencies.committee)
        self._config(lambda frame: announce(frame, CONTEXT, FIRST_PREDECESSOR, first))
        await self.dependencies.ethereum.wait_change()

    async def make_key(self) -> None:
        """Have a key prepared and made."""
        self._generation(self.dependencies.kms_generation.request_keygen)
        await self._until(lambda: self.is_made(KEY))

    async def make_crs(self) -> None:
        """Have a CRS made."""
        self._generation(self.dependencies.kms_generation.request_crsgen)
        await self._until(lambda: self.is_made(CRS))

    async def change_context(self) -> None:
        """Go over to the next context and its first epoch; the Gateway follows once it is active."""
        config, following = self.dependencies.protocol_config, announcement_of(committee_of(self.incoming))
        self._config(lambda frame: config.begin_context(frame, following))
        await self._until(lambda: self._context_state(NEXT_CONTEXT) is ContextState.ACTIVE)
        await self._name(NEXT_CONTEXT, NEXT_EPOCH)

    async def change_epoch(self) -> None:
        """Have the keys reshared in a new epoch of that context."""
        self._config(self.dependencies.protocol_config.begin_epoch)
        await self._until(lambda: self._epoch_state(LAST_EPOCH) is EpochState.ACTIVE)
        await self._name(NEXT_CONTEXT, LAST_EPOCH)

    async def abort_key(self) -> None:
        """Begin another key, and abort it while every Core of the committee is at work on it."""
        generation = self.dependencies.kms_generation
        self._generation(generation.request_keygen)
        await self._until(lambda: self.is_made(PREP + 1))
        with self._slow():
            await self._until(lambda: self._at_work("key", KEY + 1))
        self._generation(lambda frame: generation.abort_keygen(frame, PREP + 1))
        await self._until(lambda: self._is_over(KEY + 1) and not self._any_at_work("key", KEY + 1))

    async def abort_crs(self) -> None:
        """Begin another CRS, and abort it likewise."""
        generation = self.dependencies.kms_generation
        with self._slow():
            self._generation(generation.request_crsgen)
            await self._until(lambda: self._at_work("crs", CRS + 1))
        self._generation(lambda frame: generation.abort_crsgen(frame, CRS + 1))
        await self._until(lambda: self._is_over(CRS + 1) and not self._any_at_work("crs", CRS + 1))

    async def end_epoch(self) -> None:
        """Destroy the epoch before the present one, until no Core has it."""
        config = self.dependencies.protocol_config
        await self._until(self._settled)
        self._config(lambda frame: config.destroy_epoch(frame, NEXT_EPOCH))
        await self._until(lambda: not self._any(lambda core: NEXT_EPOCH.to_bytes(32) in core.epochs))

    async def end_context(self) -> None:
        """Destroy the first context, until no Core has it or its epoch."""
        config = self.dependencies.protocol_config
        await self._until(self._settled)
        self._config(lambda frame: config.destroy_context(frame, CONTEXT))
        ended = {CONTEXT.to_bytes(32), EPOCH.to_bytes(32)}
        await self._until(lambda: not self._any(lambda core: bool(ended & (core.contexts | core.epochs))))

    async def end_on_gateway(self) -> None:
        """Let the Gateway follow: it takes no request any more that names that context."""
        config, gateway = self.dependencies.gateway_config, self.dependencies.gateway
        gateway.act(config.address, lambda frame: config.destroy_context(frame, CONTEXT))
        await gateway.wait_change()

    def is_made(self, identifier: int) -> bool:
        """Tell whether a preparation, key or CRS has consensus."""
        return self._generation_word(_CONSENSUS, identifier) != 0

    def _is_over(self, identifier: int) -> bool:
        return self._generation_word(_DONE, identifier) != 0

    async def _name(self, context_id: int, epoch_id: int) -> None:
        """Let the Gateway have the context as its current one, and the users name it and the epoch."""
        config, committee = self.dependencies.gateway_config, committee_of(self.incoming)
        gateway = self.dependencies.gateway
        gateway.act(config.address, lambda frame: config.set_context(frame, context_id, committee))
        await gateway.wait_change()
        self._switched = gateway.head.number + 1  # what is queued already is mined in the next block
        if self.traffic is not None:
            _, both = naming(context_id, epoch_id)
            self.traffic.extra_data = (both,)  # where a request names none, the Core takes its default epoch

    def _settled(self) -> bool:
        """Tell whether no decryption of before the last change of names is open."""
        traces = () if self.ground_truth is None else self.ground_truth.traces.values()
        return not any(trace.answer is None and trace.block <= self._switched for trace in traces)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self.dependencies.ethereum.wait_change()

    @contextmanager
    def _slow(self) -> Iterator[None]:
        """Let what begins within the block take for ever, so that it can be aborted under way."""
        before = {core: core.generating for core in self._cores()}
        try:
            for core in before:
                core.generating = _FOR_EVER
            yield
        finally:
            for core, seconds in before.items():
                core.generating = seconds

    def _nodes(self) -> list[list[EmulatedCore]]:
        """The shards of the Core of each node."""
        own = [shard.core for shard in self.dependencies.cores]
        return [own, *([faults.core] for faults in self.dependencies.others)]

    def _cores(self) -> list[EmulatedCore]:
        return [core for shards in self._nodes() for core in shards]

    def _at_work(self, kind: str, identifier: int) -> bool:
        """Tell whether every Core of the present committee works on something."""
        name = identifier.to_bytes(32)
        committee = [shards for node, shards in enumerate(self._nodes()) if node in self.incoming]
        return all(any(core.management.at_work(kind, name) for core in shards) for shards in committee)

    def _any_at_work(self, kind: str, identifier: int) -> bool:
        return self._any(lambda core: core.management.at_work(kind, identifier.to_bytes(32)))

    def _any(self, holds: Callable[[EmulatedCore], bool]) -> bool:
        return any(holds(core) for core in self._cores())

    def _generation(self, act: Callable[[Frame], object]) -> None:
        self.dependencies.ethereum.act(self.dependencies.kms_generation.address, act)

    def _config(self, act: Callable[[Frame], object]) -> None:
        self.dependencies.ethereum.act(self.dependencies.protocol_config.address, act)

    def _generation_word(self, base: int, key: int) -> int:
        slot = mapping_slot(base, key)
        return int(self.dependencies.ethereum.state.get((self.dependencies.kms_generation.address, slot), 0))

    def _config_word(self, base: int, key: int) -> int:
        slot = mapping_slot(base, key)
        return int(self.dependencies.ethereum.state.get((self.dependencies.protocol_config.address, slot), 0))

    def _context_state(self, context_id: int) -> ContextState:
        return ContextState(self._config_word(at.CONTEXT_STATE, context_id))

    def _epoch_state(self, epoch_id: int) -> EpochState:
        return EpochState(self._config_word(at.EPOCH_STATE, epoch_id))
