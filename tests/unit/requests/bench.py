"""A pipeline with a real journal and stages that do what a test says. Never talks to a dependency."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from kmsconn.chain.follower import HeadTracker
from kmsconn.ciphertexts.budget import Attempt, ByteBudget, Lease
from kmsconn.config.working import Deadlines
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.journal import queries, recording
from kmsconn.journal.database import Binding
from kmsconn.journal.journal import Journal, open_journal
from kmsconn.journal.recording import Arrival, Read
from kmsconn.journal.rows import Row
from kmsconn.model.alerts import Holdup, Reason
from kmsconn.model.debounce import CONFIRMING
from kmsconn.model.events import Event
from kmsconn.model.life import Answer, Answered, Checked, Gathered, Seen, Submitted
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.requests.contexts import Contexts, Destruction, Suspicions
from kmsconn.requests.core_health import CoreHealth
from kmsconn.requests.pipeline import Pipeline
from kmsconn.requests.row_outcomes import RowOutcomes
from kmsconn.requests.stage_runner import StageRunner
from kmsconn.transport.ports import offload_inline
from kmsconn.transport.waiting import WakeUp
from tests.vectors import keys, log_of, request, vector_settings

CHAIN_TIME = 1_700_000_000
EXPIRY = 86_400.0
ANSWER = Answer(b"calldata", Address(b"\x51" * 20))
SETTINGS = vector_settings()
PROFILE = Fhevm(SETTINGS)
_NOBODY: Any = None  # nothing is asked


@attrs.define
class ScriptedStages:
    """Stages that pass, unless ``does`` holds something for one: an exception to raise, or a function to await."""

    does: dict[str, BaseException | Callable[[], Any]] = attrs.field(factory=dict)
    took: list[str] = attrs.field(factory=list)
    started: list[Any] = attrs.field(factory=list)
    """The contents that were to be started at the Core."""
    bytes: int = 100
    uncertain: str = ""
    existed: bool = False
    kept: Answer | None = ANSWER
    over: frozenset[int] = frozenset()

    async def _play(self, stage: str) -> None:
        await trio.lowlevel.checkpoint()
        self.took.append(stage)
        does = self.does.get(stage)
        if isinstance(does, BaseException):
            raise does
        if does is not None:
            await does()

    async def check(self, seen: Seen) -> Checked:
        await self._play("check")
        return Checked(seen.request, None, None)

    async def gather(self, checked: Checked, lease: Lease) -> Gathered:
        await Attempt(lease).reserve(self.bytes)
        await self._play("gather")
        return Gathered(checked.request, None, None, None)

    async def submit(self, gathered: Gathered) -> Submitted:
        self.started.append(gathered.request.content)
        await self._play("submit")
        return Submitted(gathered.request, self.uncertain, self.existed, over=self.over)

    async def answer(self, submitted: Submitted) -> Answered:
        await self._play("answer")
        return Answered(submitted.request, self.kept)


@attrs.define
class Bench:
    """A pipeline, its journal, and what it told."""

    pipeline: Pipeline
    stages: ScriptedStages
    journal: Journal
    head: HeadTracker
    events: list[Event]
    core_health: CoreHealth

    def let(self, **does: Any) -> None:
        """Say what stages do from now on that do not just pass."""
        self.stages.does.update(does)

    async def record(self, name: str = "public_one_v0", block: int = 10, data: bytes | None = None) -> Row:
        """Make a row of a request of the vectors."""
        log = log_of(request(name))
        log = attrs.evolve(log, block_number=block, data=log.data if data is None else data)
        identifier = int.from_bytes(log.topics[1])
        return await self.record_arrival(
            Arrival(identifier, Kind.PUBLIC_DECRYPTION, keccak256(log.data), log)
        )

    async def record_arrival(self, arrival: Arrival) -> Row:
        """Make a row of one arrival."""
        [(rid, _)] = (await self.journal.run(recording.record, self.read(arrival.log, arrival))).new
        return await self.row(rid)

    async def record_key_request(self, name: str) -> Row:
        """Make a row of key management of the vectors."""
        log, content = keys.log(name), keys.content(name)
        expires = PROFILE.operations[content.kind].expires
        return await self.record_arrival(Arrival(content.id, content.kind, PROFILE.digest(log), log, expires))

    def read(self, log: Log, *arrivals: Arrival) -> Read:
        """Return a read of one log's block that holds these arrivals and nothing else: without any, of another block."""
        block, of = log.block_number, log.address
        chain = (
            SETTINGS.chains.gateway
            if of == SETTINGS.protocol.decryption_contract.address
            else SETTINGS.chains.ethereum
        )
        return Read(
            chain.chain_id, of, (block, block), arrivals, (), block + 1, None,
            wall(), float(CHAIN_TIME), EXPIRY, {block: log.block_hash if arrivals else bytes(32)},
        )  # fmt: skip

    async def row(self, rid: int) -> Row:
        """Return a row as it is now."""
        found = await self.journal.run(queries.row, rid)
        assert found is not None
        return found

    async def run(self, row: Row) -> Row:
        """Work on a row once and return it as it is then."""
        await self.pipeline.run(row)
        return await self.row(row.rid)

    async def chain_time(self, timestamp: int) -> None:
        """Let it be that late on the chain, for sure, and by our own clock."""
        await trio.sleep(max(0.0, timestamp - wall()))
        for _ in range(3):
            self.head.note(200, timestamp)
            await trio.sleep(CONFIRMING)
        assert self.head.settled_timestamp == timestamp

    def holdups(self) -> tuple[Holdup, ...]:
        """Return what holds up requests now."""
        return self.pipeline.runner.progress.holdups(trio.current_time())

    def reasons(self) -> list[Reason]:
        """Return why requests are held up now."""
        return [one.reason for one in self.holdups()]

    def told(self, kind: type) -> list[Any]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


def other_data(row: Row) -> bytes:
    """Return the data of the same event with other extraData."""
    event = DECRYPTION.event("PublicDecryptionRequest")
    identifier, references, extra_data = event.decode(row.event.log.topics, row.event.log.data)
    return event.encode(identifier, references, extra_data + b"\x01")[1]


def wall() -> float:
    """Return our own time: the chain's own at the start of a test."""
    return CHAIN_TIME + trio.current_time()


@asynccontextmanager
async def open_bench(folder: Path, *, shards: int = 1, **does: Any) -> AsyncIterator[Bench]:
    """Run a journal while the block lasts; ``does`` says what stages do that do not just pass."""
    binding = Binding(
        "fhevm",
        SETTINGS.chains.gateway.chain_id,
        1,
        SETTINGS.protocol.decryption_contract.address,
        Address(bytes(20)),
    )
    events: list[Event] = []
    async with open_journal(
        folder / "j.db", binding, offload_inline, wall, synchronous="OFF", shards=shards
    ) as journal:
        stages, head, health = ScriptedStages(does), HeadTracker(), CoreHealth(_NOBODY, 1.0)
        head.note(100, CHAIN_TIME)
        heads = {SETTINGS.chains.gateway.chain_id: head, SETTINGS.chains.ethereum.chain_id: HeadTracker()}
        runner = StageRunner(PROFILE, health, shards, events.append, journal.note_stage)
        contexts = Contexts(PROFILE, _NOBODY, trio.current_time, Suspicions({}))
        wake_ups = {chain_id: WakeUp() for chain_id in heads}
        outcomes = RowOutcomes(
            PROFILE, journal, heads, runner, wall, lambda: 0.5, events.append, contexts, wake_ups
        )
        pipeline = Pipeline(
            profile=PROFILE,
            stages=stages,  # type: ignore[arg-type]
            journal=journal,
            heads=heads,
            destruction=Destruction(PROFILE, journal, heads, contexts, outcomes.end_destroyed),
            budgets=[ByteBudget(1000) for _ in range(shards)],
            deadlines=Deadlines(),
            runner=runner,
            outcomes=outcomes,
        )
        yield Bench(pipeline, stages, journal, head, events, health)
