"""Keeps the journal small for years: deletes what is not needed any more, a little at a time. Decides only how old that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Never

import attrs
import trio

from kmsconn.chain.heads import HeadTracker
from kmsconn.config.settings import Settings
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.ids import tag_of
from kmsconn.journal import inspecting, retention
from kmsconn.journal.journal import Journal, until_kept
from kmsconn.journal.retention import Position, RetentionStep
from kmsconn.model.requests import Kind
from kmsconn.protocols.profile import Profile, Subscription
from kmsconn.requests.components import ChainContext
from kmsconn.transport.ports import Ports

RETENTION_INTERVAL = 600.0  # seconds between rounds
REST = (
    20.0  # times as long as a step took the next one waits: retention has a twentieth of the writer at most
)
RETENTION_STEP_DELAY = 0.05  # seconds between steps at least
SETTLED = 3600.0  # seconds of blocks below the head, and below the finalized block where one is known, that nothing replaces


def final_block(head: HeadTracker, finalized: HeadTracker | None = None) -> int | None:
    """Return the last block that no reorganisation replaces any more, by a wide margin; None before a head is known."""
    if head.number is None:
        return None
    deep = head.number - head.blocks_in(SETTLED)
    return deep if finalized is None or finalized.number is None else min(deep, finalized.number)


@attrs.frozen
class Retaining:
    """The task that drops what is old."""

    settings: Settings
    profile: Profile
    journal: Journal
    chain_contexts: Mapping[int, ChainContext]
    ports: Ports

    async def run(self) -> Never:
        """Drop for ever. Cancellation: at any time. Repeating: a round begins at the oldest rows again."""
        while True:
            plan = self._plan()
            await self._round(plan)
            for of in self.profile.subscriptions():
                await self._forget_logs(of, plan)
            await trio.sleep(RETENTION_INTERVAL)

    async def _round(self, plan: RetentionStep) -> None:
        position: Position | None = Position()
        while position is not None:
            began, at = trio.current_time(), position
            position = await until_kept(lambda: self.journal.run(retention.step, plan, at))  # noqa: B023 - called at once
            await trio.sleep(max(RETENTION_STEP_DELAY, REST * (trio.current_time() - began)))

    async def _forget_logs(self, of: Subscription, plan: RetentionStep) -> None:
        """Delete the undecodable logs of a contract that are old and final, and whose ids the proof of completeness has passed."""
        if (before := plan.delete_before) is None:
            return
        logs = await until_kept(lambda: self.journal.run(inspecting.quarantined, of.chain_id, of.contract))
        last = plan.final.get(of.chain_id, -1)
        final = [one for one in logs if one.place[0] <= last and one.found < before]
        if not final:
            return
        marks = [(one.tag, await self._low_water(of, one.kind)) for one in self.profile.numberings(of)]
        passed = [one for one in final if one.log is not None and not self._is_counted(one.log, marks)]
        await until_kept(lambda: self.journal.run_each(inspecting.drop_log, passed))

    async def _low_water(self, of: Subscription, kind: Kind) -> int:
        mark = await until_kept(lambda: self.journal.run(retention.low_water, of.chain_id, of.contract, kind))
        return -1 if mark is None else mark.id

    def _is_counted(self, log: Log, marks: Iterable[tuple[int, int]]) -> bool:
        """Say whether the proof of completeness may look for the id of a log: it is above the low-water mark of its numbering."""
        found = self.profile.id_of(log)
        return found is not None and any(tag_of(found) == tag and found > mark for tag, mark in marks)

    def _plan(self) -> RetentionStep:
        retention, now = self.settings.storage.retention, self.ports.wall()
        blocks = {
            chain: final_block(chain_context.head, chain_context.finalized)
            for chain, chain_context in self.chain_contexts.items()
        }
        numbered = {one.kind for of in self.profile.subscriptions() for one in self.profile.numberings(of)}
        return RetentionStep(
            clear_before=now - retention.contents if retention.contents else None,
            delete_before=now - retention.rows if retention.rows else None,
            final={chain: block for chain, block in blocks.items() if block is not None},
            numbered=frozenset(numbered),
        )
