"""A whole run in one process and without a socket, and its requests as rows for an onlooker, from events and the chain. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from pathlib import Path
from random import Random

import attrs
import trio

from kmsconn.connector.connector import serve
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.ground_truth import ChainVerdict, GroundTruth, ground_truth_of
from kmsconn.emulator.key_life import QUICK, KeyLife, KeyResult
from kmsconn.emulator.load import LAST_REPLY_TIMEOUT, Ledger, Load, run_load
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.traffic import GENERATIONS, Traffic
from kmsconn.emulator.users import Users
from kmsconn.model.events import (
    AnswerKept,
    Event,
    ReplyIncluded,
    ReplyReturned,
    ReplySent,
    ReplySigned,
    RequestClosed,
    RequestDeferred,
    RequestRecorded,
    StageFinished,
)
from kmsconn.model.life import State
from kmsconn.model.requests import FHEVM, Kind, profile_named
from kmsconn.transport.ports import Offload, Ports


class ProgressStage(IntEnum):
    """How far a request is."""

    PENDING = 0
    CHECKED = 1
    GATHERED = 2
    SUBMITTED = 3
    ANSWERED = 4
    SIGNED = 5
    SENT = 6
    INCLUDED = 7


_AFTER = {"check": ProgressStage.CHECKED, "gather": ProgressStage.GATHERED, "submit": ProgressStage.SUBMITTED}
_DECRYPTIONS = {Kind.PUBLIC_DECRYPTION, Kind.USER_DECRYPTION}
_WELL = {State.DONE, State.ABORTED}
_RETURNED = {
    State.ANSWERED: ProgressStage.ANSWERED,
    State.SIGNED: ProgressStage.SIGNED,
    State.PENDING: ProgressStage.PENDING,
}


@attrs.define
class ProgressRow:
    """One request. ``note`` says why it waits, or why it ended without a reply (``closed``; ``well``: as it should). Times are Trio's."""

    rid: int
    kind: Kind
    id: int
    stage: ProgressStage = ProgressStage.PENDING
    note: str = ""
    closed: bool = False
    well: bool = False
    began: float = 0.0
    ended: float | None = None

    @property
    def is_decryption(self) -> bool:
        """Whether it is one of the requests that totals count; the others manage keys."""
        return self.kind in _DECRYPTIONS

    @property
    def is_at_work(self) -> bool:
        """Whether it has neither ended nor its reply on chain."""
        return not self.closed and self.stage is not ProgressStage.INCLUDED


@attrs.frozen
class Totals:
    """How many requests are how far. ``answered`` counts the durable answers of the Core, ``included`` the replies on the chain."""

    requested: int
    seen: int
    answered: int
    included: int
    failed: int
    doubled: int


class ProgressTable:
    """Takes the events of one connector, as ``on_event``; knows forms from the ledger and latencies from the ground truth."""

    def __init__(
        self, ground_truth: GroundTruth, ledger: Ledger, *, clock: Callable[[], float] = trio.current_time
    ) -> None:
        self.rows: dict[int, ProgressRow] = {}
        """By journal row, oldest first."""
        self._ground_truth, self._ledger, self._clock = ground_truth, ledger, clock
        self._answered: set[int] = set()

    def on_event(self, event: Event) -> None:
        """Take an event."""
        match event:
            case RequestRecorded():
                self.rows[event.rid] = ProgressRow(event.rid, event.kind, event.id, began=self._clock())
            case StageFinished() if event.stage in _AFTER:
                self._move(event.rid, _AFTER[event.stage])
            case AnswerKept():
                self._answered.add(event.rid)
                self._move(event.rid, ProgressStage.ANSWERED)
            case ReplySigned():
                self._move(event.rid, ProgressStage.SIGNED)
            case ReplySent():
                self._move(event.rid, ProgressStage.SENT)
            case ReplyIncluded():
                self._move(event.rid, ProgressStage.INCLUDED)
                self._end(event.rid)
            case ReplyReturned():
                self._move(event.rid, _RETURNED.get(event.state, ProgressStage.ANSWERED), event.reason)
            case RequestDeferred():
                self._note(event.rid, event.reason)
            case RequestClosed():
                self._close(event)

    def totals(self) -> Totals:
        """Count the decryptions."""
        verdict, rows = self._ground_truth.verdict(), [row for row in self.rows.values() if row.is_decryption]
        return Totals(
            requested=len(self._ledger.forms),
            seen=len(rows),
            answered=sum(row.rid in self._answered for row in rows),
            included=verdict.answered,
            failed=sum(row.closed for row in rows),
            doubled=verdict.doubled,
        )

    def name_of(self, row: ProgressRow) -> int:
        """Return what a request is called: its id, with a tag before it where ids of two kinds may be equal."""
        if not row.is_decryption:
            return row.id
        return self._ground_truth.name(row.kind, row.id)

    def form_of(self, row: ProgressRow) -> str:
        """Return by which form a request was made, or which kind of key management it is."""
        if not row.is_decryption:
            return str(row.kind)
        trace = self._ground_truth.request(row.kind, row.id)
        return "" if trace is None else self._ledger.forms.get(trace.transaction_hash, "")

    def age_of(self, row: ProgressRow) -> float | None:
        """Return the seconds from the event's block to the reply's, or until now; of key management from when it was seen."""
        if not row.is_decryption:
            return (self._clock() if row.ended is None else row.ended) - row.began
        trace = self._ground_truth.request(row.kind, row.id)
        if trace is None:
            return None
        return self._clock() - trace.at if trace.latency is None else trace.latency

    def _move(self, rid: int, stage: ProgressStage, note: str = "") -> None:
        if row := self.rows.get(rid):
            row.stage, row.note = stage, note

    def _note(self, rid: int, note: str) -> None:
        if row := self.rows.get(rid):
            row.note = note

    def _close(self, event: RequestClosed) -> None:
        self._note(event.rid, str(event.state) if event.state in _WELL else f"{event.state}: {event.reason}")
        if row := self.rows.get(event.rid):
            row.closed, row.well = event.state is not State.FINALIZED, event.state in _WELL
        self._end(event.rid)

    def _end(self, rid: int) -> None:
        if (row := self.rows.get(rid)) and row.ended is None:
            row.ended = self._clock()


COMPUTING = (0.02, 0.12)
"""Seconds that the emulated Core takes for an answer, drawn between these."""


@attrs.frozen
class DemoPlan:
    """What is shown: how many requests, how many per second; the seed draws forms, values and the Core's times."""

    requests: int = 40
    rate: float = 10.0
    seed: int = 0
    profile: str = FHEVM
    reply_timeout: float = LAST_REPLY_TIMEOUT
    keys: bool = False
    """Whether a life of keys is led beside the requests."""

    @property
    def load(self) -> Load:
        """The load that makes these requests."""
        return Load(self.rate, self.requests / self.rate)


@attrs.frozen
class DemoResult:
    """What came of it."""

    requests: int
    totals: Totals
    verdict: ChainVerdict
    keys: KeyResult | None = None

    @property
    def failed(self) -> int:
        """Requests without a reply on the chain."""
        return self.requests - self.totals.included

    @property
    def well(self) -> bool:
        """Every request was answered and included, and none twice; and so it was with keys."""
        decrypted = self.totals.answered == self.totals.included == self.requests and self.verdict.well
        return decrypted and (self.keys is None or self.keys.well)


@attrs.frozen
class Demo:
    """One demonstration; ``progress`` may be looked at from other tasks while it runs."""

    plan: DemoPlan
    dependencies: EmulatedDependencies
    traffic: Users[EmulatedDependencies]
    ground_truth: GroundTruth
    ledger: Ledger
    progress: ProgressTable
    keys: KeyLife | None = None

    @classmethod
    def of(cls, plan: DemoPlan, wall: Callable[[], float]) -> Demo:
        """Make everything of a plan; nothing runs yet. ``wall`` gives Unix seconds."""
        random = Random(plan.seed)
        traffic = GENERATIONS[profile_named(plan.profile)].settle(
            wall, Random(plan.seed), seed=plan.seed, computing=lambda: random.uniform(*COMPUTING)
        )
        dependencies, ledger = traffic.dependencies, Ledger()
        ground_truth = ground_truth_of(dependencies)
        keys = KeyLife.beside(traffic, ground_truth) if plan.keys and isinstance(traffic, Traffic) else None
        return cls(
            plan, dependencies, traffic, ground_truth, ledger, ProgressTable(ground_truth, ledger), keys
        )

    def result(self) -> DemoResult:
        """Return what came of it so far."""
        keys = None if self.keys is None else self.keys.result()
        return DemoResult(self.plan.requests, self.progress.totals(), self.ground_truth.verdict(), keys)


async def _settle(demo: Demo) -> None:
    """Wait until all rows of key management are through, or reply_timeout is over: an abort counts once a later head says the same."""
    keys = [] if demo.keys is None else demo.progress.rows.values()
    with trio.move_on_after(demo.plan.reply_timeout):
        while any(row.is_at_work and not row.is_decryption for row in keys):  # noqa: ASYNC110 - the progress is read from outside
            await trio.sleep(0.5)


async def run_demo(demo: Demo, journal: Path, *, offload: Offload, wall: Callable[[], float]) -> DemoResult:
    """Start the connector, make the requests, and wait until they have been included or reply_timeout is over; drain the connector.

    Raises what ends a connector, and faults of the emulator itself, as a group. Cancellation: at any time.
    """
    network = MemoryNetwork()
    demo.dependencies.settle_in_memory(network)
    ports = Ports(network, offload, wall, Random(demo.plan.seed).random)
    settings = demo.dependencies.settings(journal, **({} if demo.keys is None else QUICK))
    async with trio.open_nursery() as dependencies:
        await dependencies.start(network.run)
        await dependencies.start(demo.dependencies.run)
        async with trio.open_nursery() as nursery:
            start = partial(serve, settings, ports=ports, on_event=demo.progress.on_event)
            connector = await nursery.start(start)
            async with trio.open_nursery() as work:
                if demo.keys is not None:
                    work.start_soon(demo.keys.lead)
                await run_load(
                    demo.plan.load,
                    demo.traffic,
                    demo.ground_truth,
                    ledger=demo.ledger,
                    reply_timeout=demo.plan.reply_timeout,
                )
            await _settle(demo)
            connector.drain()
        dependencies.cancel_scope.cancel()
    if network.crashes:
        raise ExceptionGroup("the emulator itself failed", network.crashes)
    return demo.result()
