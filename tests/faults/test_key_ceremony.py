"""A life of keys: four connectors take four Cores through preparation, key, CRS, abort, a new context, its epoch, and ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import attrs
import trio
from grpclib.const import Status

from kmsconn.emulator.contracts import ceremonies
from kmsconn.emulator.contracts.ceremonies import Announcement, NodeParams
from kmsconn.emulator.contracts.gateway_config import KmsNode, Thresholds
from kmsconn.emulator.core_faults import Chance, status
from kmsconn.emulator.neighbourhood import CONTEXT, EPOCH, Neighbourhood, sender_of, signer_of
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.ethereum.abi import Function
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import make_id
from kmsconn.model.events import (
    AnswerKept,
    Event,
    ReplyLanded,
    ReplySent,
    ReplySigned,
    RequestAdmitted,
    RequestClosed,
    StageFinished,
    Trouble,
)
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm_014.key_replies import (
    CONFIRM_CONTEXT,
    CONFIRM_EPOCH,
    CRS_RESPONSE,
    KEY_RESPONSE,
    PREP_RESPONSE,
)
from kmsconn.protocols.fhevm_014.key_views import CONFIG_BASE, GENERATION_BASE
from kmsconn.protocols.storage import mapping_slot
from kmsconn.service.connector import open_connector
from kmsconn.testing.mortality import Killed, Life, MortalPorts
from tests.faults.scene import BEGIN

MEMBERS = 4
PREP, KEY, CRS = (make_id(tag, 1) for tag in (3, 4, 5))
LONG = 3600.0  # virtual seconds for one step: blocks of 12 s, and finality
ENDS = 60.0


def announcement() -> Announcement:
    nodes = tuple(
        NodeParams(
            KmsNode(
                sender_of(n).address, signer_of(n).address, f"http://kms-{n}:50001", f"https://kms-{n}/public"
            ),
            n + 1,
            f"kms-{n}",
        )
        for n in range(MEMBERS)
    )
    return Announcement(nodes, Thresholds(3, 3, 3, 1))


@attrs.define(eq=False)
class Ceremony:
    """Four nodes, and what each connector said."""

    neighbours: Neighbourhood
    network: MemoryNetwork
    folder: Path
    events: list[list[Event]] = attrs.field(factory=lambda: [[] for _ in range(MEMBERS)])
    deadly: Callable[[Event], bool] = lambda _: False
    lives: list[Life] = attrs.field(factory=lambda: [Life() for _ in range(MEMBERS)])

    async def run(self, member: int) -> None:
        """Run one connector, again and again: when its life ends it begins a new one with the same journal."""
        while True:
            life = self.lives[member] = Life()
            ports = MortalPorts(life, self.network, lambda: BEGIN + trio.current_time(), Random(0)).ports()
            settings = self.neighbours.settings(
                self.folder / f"journal-{member}.db", member, overlap=4.0, kms_operation_from_block_number=0
            )
            try:
                with life.scope:
                    async with open_connector(settings, ports=ports, on_event=partial(self.note, member)):
                        await trio.sleep_forever()
            except* Killed:
                assert life.dead
            await trio.sleep(1)

    def note(self, member: int, event: Event) -> None:
        """Keep what a connector said; the first one dies of whatever ``deadly`` says is new."""
        self.events[member].append(event)
        if member == 0 and self.deadly(event):
            self.lives[0].kill()

    def act(self, contract: Any, what: Callable[[Any], Any]) -> None:
        """Do what the owner does, in the next block."""
        self.neighbours.ethereum.act(contract.address, what)

    def generation(self, slot: int) -> int:
        """Return a word of KMSGeneration."""
        return int(self.neighbours.ethereum.state.get((self.neighbours.kms_generation.address, slot), 0))

    def config(self, slot: int) -> int:
        """Return a word of ProtocolConfig."""
        return int(self.neighbours.ethereum.state.get((self.neighbours.protocol_config.address, slot), 0))

    def is_made(self, identifier: int) -> bool:
        """Tell whether a preparation, key or CRS has consensus."""
        return self.generation(mapping_slot(GENERATION_BASE + 3, identifier)) != 0

    def told(self, member: int, kind: type, of: Kind) -> list[Any]:
        """Return what one connector said of one kind of request."""
        return [
            event
            for event in self.events[member]
            if isinstance(event, kind) and getattr(event, "kind", "") is of
        ]

    async def wait(self, condition: Callable[[], Any]) -> None:
        with trio.fail_after(LONG):
            while not condition():
                await trio.sleep(1)

    async def key(self) -> None:
        """Have a key made."""
        self.act(self.neighbours.kms_generation, self.neighbours.kms_generation.request_keygen)
        await self.wait(lambda: self.is_made(KEY))

    async def crs(self) -> None:
        """Have a CRS made."""
        self.act(self.neighbours.kms_generation, self.neighbours.kms_generation.request_crsgen)
        await self.wait(lambda: self.is_made(CRS))

    async def context(self) -> None:
        """Go over to a new context of the same nodes, and to its epoch."""
        config = self.neighbours.protocol_config
        self.act(config, lambda frame: config.begin_context(frame, announcement()))
        await self.wait(lambda: self.config(CONFIG_BASE + 11) == CONTEXT + 1)
        assert self.config(CONFIG_BASE + 13) == EPOCH + 1


@asynccontextmanager
async def open_ceremony(folder: Path, shards: int = 1) -> AsyncIterator[Ceremony]:
    neighbours = Neighbourhood.make(
        lambda: BEGIN + trio.current_time(), block_time=4.0, computing=2.0, members=MEMBERS, shards=shards
    )
    neighbours.ethereum.finality = 2
    config = neighbours.protocol_config
    neighbours.ethereum.act(
        config.address,
        lambda frame: ceremonies.announce(frame, CONTEXT, ceremonies.FIRST_PREDECESSOR, announcement()),
    )
    network = MemoryNetwork()
    neighbours.settle_in_memory(network)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        await nursery.start(neighbours.run)
        ceremony = Ceremony(neighbours, network, folder)
        for member in range(MEMBERS):
            nursery.start_soon(ceremony.run, member)
        yield ceremony
        nursery.cancel_scope.cancel()
    assert not network.crashes
    ended = [e for told in ceremony.events for e in told if isinstance(e, RequestClosed) and e.state in BAD]
    assert [e for e in ended if "destroyed" not in e.reason] == []


BAD = {State.REJECTED, State.QUARANTINED, State.EXPIRED}
STEPS = (Kind.PREP_KEYGEN, Kind.KEYGEN, Kind.CRSGEN, Kind.NEW_KMS_CONTEXT, Kind.NEW_KMS_EPOCH)


def landed(ceremony: Ceremony, function: Function) -> list[Address]:
    """Return who has had a reply of this function taken, once each time."""
    chain = ceremony.neighbours.ethereum
    mined = [one for block in chain.blocks_with_logs(0, chain.head.number) for one in block.mined]
    return sorted(
        one.transaction.sender
        for one in mined
        if one.outcome.status and one.transaction.data[:4] == function.selector
    )


SENDERS = sorted(sender_of(member).address for member in range(MEMBERS))


async def test_four_nodes_take_keys_through_their_life(tmp_path: Path, autojump_clock: Any) -> None:
    async with open_ceremony(tmp_path) as ceremony:
        await ceremony.key()
        await ceremony.crs()
        await ceremony.context()
        await trio.sleep(ENDS)
        for member in range(MEMBERS):
            for kind in STEPS:
                assert len(ceremony.told(member, RequestAdmitted, kind)) == 1, kind
                assert len(ceremony.told(member, ReplyLanded, kind)) == 1, kind
        for core in [*ceremony.neighbours.cores, *ceremony.neighbours.others]:
            assert (CONTEXT + 1).to_bytes(32) in core.core.contexts


FATAL = (RequestAdmitted, StageFinished, AnswerKept, ReplySigned, ReplySent, ReplyLanded)


async def test_a_node_that_is_killed_at_each_step_loses_nothing(tmp_path: Path, autojump_clock: Any) -> None:
    """It dies of the first event of each sort of each kind: thirty lives, and every reply is given once."""
    died: set[tuple[str, Kind]] = set()

    def deadly(event: Event) -> bool:
        sort = (type(event).__name__, getattr(event, "kind", Kind.PUBLIC_DECRYPTION))
        is_new = isinstance(event, FATAL) and sort not in died
        died.update({sort} if is_new else ())
        return is_new

    async with open_ceremony(tmp_path) as ceremony:
        ceremony.deadly = deadly
        await ceremony.key()
        await ceremony.crs()
        await ceremony.context()
        await trio.sleep(ENDS)
        assert len(died) >= len(STEPS) * (len(FATAL) - 1)
        for function in (PREP_RESPONSE, KEY_RESPONSE, CRS_RESPONSE, CONFIRM_CONTEXT, CONFIRM_EPOCH):
            assert landed(ceremony, function) == SENDERS, function.name


async def test_contexts_and_epochs_reach_every_endpoint_of_a_core(
    tmp_path: Path, autojump_clock: Any
) -> None:
    """0.14 tells one of them, and the previous context perhaps to another (P4)."""
    async with open_ceremony(tmp_path, shards=3) as ceremony:
        await ceremony.key()
        await ceremony.crs()
        await ceremony.context()
        config = ceremony.neighbours.protocol_config
        ceremony.act(config, lambda frame: config.destroy_context(frame, CONTEXT))
        await ceremony.wait(lambda: ceremony.told(0, RequestClosed, Kind.KMS_CONTEXT_DESTROYED))
        for shard in ceremony.neighbours.cores:
            assert shard.core.contexts == {(CONTEXT + 1).to_bytes(32)}
            assert shard.core.epochs == {(EPOCH + 1).to_bytes(32)}


async def test_an_abort_overtakes_what_it_aborts(tmp_path: Path, autojump_clock: Any) -> None:
    async with open_ceremony(tmp_path) as ceremony:
        for core in [*ceremony.neighbours.cores, *ceremony.neighbours.others]:
            core.core.computing = 10 * LONG
        generation = ceremony.neighbours.kms_generation
        ceremony.act(generation, generation.request_keygen)
        await ceremony.wait(
            lambda: all(
                any(e.stage == "submit" for e in ceremony.told(member, StageFinished, Kind.PREP_KEYGEN))
                for member in range(MEMBERS)
            )
        )
        ceremony.act(generation, lambda frame: generation.abort_keygen(frame, PREP))
        await ceremony.wait(
            lambda: all(ceremony.told(m, RequestClosed, Kind.PREP_KEYGEN) for m in range(MEMBERS))
        )
        for member in range(MEMBERS):
            [asked] = ceremony.told(member, RequestClosed, Kind.PREP_KEYGEN)
            [abort] = ceremony.told(member, RequestClosed, Kind.ABORT_KEYGEN)
            assert (asked.state, abort.state) == (State.ABORTED, State.DONE)


async def test_the_end_of_contexts_and_epochs_reaches_the_cores(tmp_path: Path, autojump_clock: Any) -> None:
    async with open_ceremony(tmp_path) as ceremony:
        await ceremony.key()
        await ceremony.crs()
        await ceremony.context()
        config, core = ceremony.neighbours.protocol_config, ceremony.neighbours.cores[0].core
        assert {CONTEXT.to_bytes(32), EPOCH.to_bytes(32)} <= core.contexts | core.epochs
        ceremony.act(config, lambda frame: config.destroy_context(frame, CONTEXT))
        await ceremony.wait(lambda: ceremony.told(0, RequestClosed, Kind.KMS_CONTEXT_DESTROYED))
        assert core.contexts == {(CONTEXT + 1).to_bytes(32)}
        assert core.epochs == {(EPOCH + 1).to_bytes(32)}
        ceremony.act(config, lambda frame: config.destroy_epoch(frame, EPOCH + 1))
        await ceremony.wait(lambda: ceremony.told(0, RequestClosed, Kind.KMS_EPOCH_DESTROYED))
        assert core.epochs == set()


async def test_an_epoch_whose_result_is_lost_is_told_in_red_and_waited_for(
    tmp_path: Path, autojump_clock: Any
) -> None:
    """The Core keeps the result in memory only: after a restart it has the epoch and not what it signed (L10)."""
    async with open_ceremony(tmp_path) as ceremony:
        await ceremony.key()
        await ceremony.crs()
        lost = ceremony.neighbours.cores[0]
        lost.chances.append(Chance(1.0, status(Status.UNAVAILABLE), "GetEpochResult"))
        config = ceremony.neighbours.protocol_config
        ceremony.act(config, lambda frame: config.begin_context(frame, announcement()))
        await ceremony.wait(
            lambda: any(e.stage == "submit" for e in ceremony.told(0, StageFinished, Kind.NEW_KMS_EPOCH))
        )
        await trio.sleep(ENDS)
        lost.core.restart()
        lost.heal()
        await ceremony.wait(
            lambda: [
                e
                for e in ceremony.events[0]
                if isinstance(e, Trouble)
                and e.red
                and "INVALID_ARGUMENT" in e.reason
                and "NOT_FOUND" in e.reason
            ]
        )
        assert ceremony.told(0, RequestClosed, Kind.NEW_KMS_EPOCH) == []
        config_dead = lambda frame: config.destroy_context(frame, CONTEXT + 1)  # noqa: E731
        ceremony.act(config, config_dead)
        await ceremony.wait(lambda: ceremony.told(0, RequestClosed, Kind.NEW_KMS_EPOCH))
        [closed] = ceremony.told(0, RequestClosed, Kind.NEW_KMS_EPOCH)
        assert "destroyed" in closed.reason
