"""This process as one of several over one PostgreSQL journal: its leases, the rows that it claims, and what the others tell it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

import attrs
import trio

from kmsconn.config.settings import Settings
from kmsconn.config.storage import common_settings
from kmsconn.config.values import PostgresAddress, Role
from kmsconn.connector.alerting import JOURNAL
from kmsconn.connector.following import Topics
from kmsconn.connector.leases import GIVING, LeaseClock, Leases
from kmsconn.errors import JournalFailed
from kmsconn.journal import members, queries
from kmsconn.journal.journal import Journal
from kmsconn.journal.members import Claimed
from kmsconn.journal.postgres import Batch
from kmsconn.journal.postgres_session import SessionLimits
from kmsconn.journal.postgres_side import SideSession, listen, watch_servers
from kmsconn.journal.rows import UNREADABLE, read_row
from kmsconn.journal.values import Due, Row, Shards
from kmsconn.model.alerts import Board
from kmsconn.model.events import OnEvent
from kmsconn.model.requests import Kind
from kmsconn.requests.membership import tell_different_settings, tell_missing_roles
from kmsconn.transport.ports import Ports

LOOK_AGAIN: Final = (
    1.0  # seconds after which the journal is looked at without being told to: others write it too
)


@attrs.define(eq=False, kw_only=True)
class Member(Leases):
    """A member of a journal; made by ``open_member``."""

    claiming: SideSession
    shards: int
    look_again = LOOK_AGAIN

    @property
    def has_successor(self) -> bool:
        """Whether another member, who has not been silent for long, sends replies."""
        return any(
            one.token != self.token and Role.SEND in one.roles and one.silent < self.clock.lease
            for one in self.gathering.members
        )

    def is_valid(self) -> bool:
        """Say whether no other process can have taken over from this one by now. Asks nobody."""
        return self.clock.is_valid(trio.current_time())

    async def pick(
        self, kinds: Collection[Kind], now: float, limit: int, busy: frozenset[int], *, without: Shards
    ) -> Due:
        """Claim due rows; see ``Membership``."""
        claiming = self.claiming.ask(
            partial(
                members.claim,
                token=self.token,
                shards=self.shards,
                kinds=kinds,
                of_shards=[shard for shard in range(self.shards) if shard not in without.chosen],
                now=now,
                limit=limit,
                busy=busy,
            )
        )
        claimed = await self.journal.failures.noting(claiming)
        return Due(tuple(await self._read(claimed))[:limit], claimed.next_due)

    async def _read(self, claimed: Claimed) -> list[Row]:
        """Return the rows that can be read, longest due first; the others are set aside."""
        rows: list[Row] = []
        for stored in claimed.stored:
            try:
                rows.append(read_row(stored))
            except UNREADABLE:
                await self.journal.run(queries.row, stored[0])
        return sorted(rows, key=_turn)

    async def give_rows_back(self) -> None:
        """Let other processes pick what this one has picked, and look which others there are. Repeating: no effect."""
        with trio.move_on_after(GIVING, shield=True), suppress(JournalFailed):
            await self.journal.run(members.give_rows_back, self.token)
            await self.look()

    async def hear(self, topics: Topics, told: frozenset[str]) -> None:
        """Take what other processes have told; without anything, that they may have told something."""
        if not told or any(topic.startswith("answered") for topic in told):
            with suppress(JournalFailed):
                self.journal.note_tick(await self.claiming.ask(members.tick))
        topics.tell(told)

    async def leave(self) -> None:
        """Be a member no more, with the last commit of this process; beside the journal where that has ended, so that nobody waits."""
        with trio.move_on_after(GIVING, shield=True), suppress(JournalFailed):
            if self.journal.is_closed:
                await self.side.ask(partial(members.depart, token=self.token))
            else:
                await self.journal.run(members.leave, self.token)


def _turn(row: Row) -> tuple[float, int, int]:
    return row.progress.next_attempt, row.event.log.block_number, row.event.log.log_index


@asynccontextmanager
async def open_member(
    journal: Journal, settings: Settings, ports: Ports, topics: Topics, on_event: OnEvent
) -> AsyncIterator[Member]:
    """Be a member of an open journal in PostgreSQL while the block lasts.

    Raises JournalFailed where the database cannot be asked; LeaseLost, in a group from inside, when the others have dismissed this process.
    Cancellation: the membership ends with the last commit.
    """
    address, lease = settings.storage.journal, settings.storage.lease
    assert isinstance(address, PostgresAddress), "a file has one process"
    limits = limits_of(lease)
    side = SideSession(address, "membership", ports.offload, limits)
    claiming = SideSession(address, "claims", ports.offload, attrs.evolve(limits, is_fleeting=True))
    clock, sent = LeaseClock(lease), trio.current_time()
    try:
        token = await side.ask(partial(_join, settings=settings))
        clock.joined(sent)
        ours = journal.join(token)
        board = Board(on_event, trio.current_time)
        watchers = partial(tell_missing_roles, board), partial(tell_different_settings, board)
        member = Member(
            journal=journal,
            side=side,
            token=token,
            clock=clock,
            board=board,
            watchers=watchers,
            ours=ours,
            claiming=claiming,
            shards=len(settings.core.core_endpoints),
        )
        topics.on("lease", member.wake_up.notify)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(member.run)
                nursery.start_soon(
                    listen,
                    address,
                    "listening",
                    ports.offload,
                    partial(member.hear, topics),
                    ours,
                )
                if len(address.hosts) > 1:
                    tell = partial(board.set, "old-primary", JOURNAL)
                    nursery.start_soon(watch_servers, address, "servers", ports.offload, tell)
                yield member
                nursery.cancel_scope.cancel()
        finally:
            await member.leave()  # noqa: ASYNC102 - shields itself, with a deadline
    finally:
        side.close()
        claiming.close()


def _join(batch: Batch, settings: Settings) -> int:
    return members.join(batch, name_of(settings), settings.work.roles, common_settings(settings))


def limits_of(lease: float) -> SessionLimits:
    """Return how long questions beside the journal may take: an answer that comes after the lease is no use."""
    seconds = max(1, round(lease / 2))
    return SessionLimits(lock=seconds, statement=seconds, reply=seconds + 1, stopped=seconds)


def name_of(settings: Settings) -> str:
    """Return what other processes call this one: its service name and machine."""
    return f"{settings.monitoring.service_name}@{socket.gethostname()}"
