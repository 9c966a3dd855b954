"""This process as one of several over one PostgreSQL journal: its leases, the rows that it claims, and what the others tell it.

It renews its place, takes the leases that are free, and dismisses who is silent. A process that finds itself dismissed ends with LeaseLost.
While the database cannot be reached nothing is broadcast, and everything else waits for the journal.

When leases count as lost, and whom a process may declare gone, is a matter of one clock (``LeaseClock``). Every process renews its place
among the members. The database notes the time of each renewal by its own clock, and others take a member that has not renewed for a lease
for gone: they delete its row, and with it its leases. Two clocks never meet: each side counts a length of time by its own one.

1. A process may act as long as the renewal that was *sent* last, of those that succeeded, is younger than a lease less a margin. The
   database noted it later than it was sent, so nobody can have deleted the row by then; the margin is for clocks that run unevenly, and
   for what is done right after the question.
2. A process that was out of touch for longer, and finds its row still there, goes on: nobody has taken over.
3. Who was out of touch itself may not judge the silence of others: after an outage of the database all are late, and the first one back
   must not declare the others gone. It waits for a lease from its return. A process that has just begun judges at once.
"""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, Never

import attrs
import trio

from kmsconn.config.assembly import common_settings
from kmsconn.config.description import PostgresAddress, Role
from kmsconn.config.settings import Settings
from kmsconn.connector.alerting import JOURNAL
from kmsconn.connector.following import Topics, tell
from kmsconn.errors import JournalFailed, LeaseLost
from kmsconn.journal import members, queries
from kmsconn.journal.journal import Journal
from kmsconn.journal.members import Gathering
from kmsconn.journal.postgres_session import SessionLimits
from kmsconn.journal.postgres_side import SideSession, listen, watch_servers
from kmsconn.journal.queries import Due
from kmsconn.journal.rows import UNREADABLE, Row, read_row
from kmsconn.model.alerts import Board
from kmsconn.model.events import OnEvent
from kmsconn.model.requests import Kind
from kmsconn.requests.membership import SENDS, Membership, tell_different_settings, tell_missing_roles
from kmsconn.transport.ports import Ports
from kmsconn.transport.waiting import WakeUp

RENEWALS: Final = 4  # in a lease: three may fail
MARGIN: Final = 0.2  # of a lease


@attrs.define
class LeaseClock:
    """What one process knows of its renewals; times are of a clock that goes on while the process is stopped."""

    lease: float
    _sent: float
    """When the newest renewal that succeeded was sent, at first the question by which the process became a member."""
    _in_touch_since: float = -math.inf
    """Since when no renewal was missing for longer than a lease."""

    @property
    def interval(self) -> float:
        """Seconds between renewals."""
        return self.lease / RENEWALS

    def renewed(self, sent: float) -> None:
        """Note that a renewal succeeded that was sent then."""
        if sent - self._sent >= self.lease:
            self._in_touch_since = sent
        self._sent = max(self._sent, sent)

    def is_valid(self, now: float) -> bool:
        """Say whether no other process can have taken over by now."""
        return now - self._sent < self.lease * (1.0 - MARGIN)

    def may_judge(self, now: float) -> bool:
        """Say whether another member's silence says something about that member."""
        return self.is_valid(now) and now - self._in_touch_since >= self.lease


LOOK_AGAIN: Final = 3.0
"""Seconds after which the journal is looked at without being told to: others defer rows, which they tell nobody."""
GIVING: Final = 2.0  # seconds for giving something back while everything else ends
SOONEST: Final = 0.02  # seconds between rounds at least
DISMISSED_SHOWN: Final = 300.0  # seconds for which it is told that another process was dismissed
MEMBERSHIP: Final = "membership"


@attrs.define(eq=False, kw_only=True)
class Member(Membership):
    """A member of a journal; made by ``open_member``. ``side`` renews and takes, ``claiming`` claims rows."""

    side: SideSession
    claiming: SideSession
    token: int
    clock: LeaseClock
    board: Board
    shards: int
    ours: Callable[[], int]
    """Which of the server's processes serves the journal of this one."""
    look_again = LOOK_AGAIN
    gathering: Gathering = attrs.field(factory=lambda: Gathering(is_member=True))
    wake_up: WakeUp = attrs.field(factory=WakeUp)
    """Asks for the next round."""
    _wanted: dict[str, trio.Event] = attrs.field(factory=dict)
    """The leases that are waited for."""
    _held: set[str] = attrs.field(factory=set)
    """Those whose components run."""

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

    async def run(self) -> Never:
        """Renew, take and dismiss for ever. Raises LeaseLost once the others have dismissed this process."""
        dismissed: dict[str, tuple[int, float]] = {}
        while True:
            began = trio.current_time()
            try:
                until = began + await self._round(began, dismissed)
            except JournalFailed as error:
                late = "" if self.is_valid() else f"{error}: nothing is broadcast meanwhile"
                self.board.set("lease-late", MEMBERSHIP, late)
                until = began + self.clock.interval / 2
            await trio.sleep(SOONEST)
            with trio.move_on_at(until):
                await self.wake_up.wait()

    async def _round(self, sent: float, dismissed: dict[str, tuple[int, float]]) -> float:
        """Renew, and do what follows from who is there; return the seconds until the next round.

        ``dismissed``: whom this process has dismissed, by name: the token, and when.
        """
        held = {*self._held}
        seen = await self.look()
        self.clock.renewed(sent)
        self.board.set("lease-late", MEMBERSHIP, None)
        if lost := (held & self._held) - seen.of(self.token):
            raise LeaseLost(f"the lease {min(lost)!r} of this process was taken away")
        self._tell_dismissed(dismissed, {one.name for one in seen.members})
        tell_missing_roles(self.board, seen)
        tell_different_settings(self.board, seen)
        silent = max((one.silent for one in seen.members if one.token != self.token), default=0.0)
        if silent > self.clock.lease and self.clock.may_judge(trio.current_time()):
            gone = await self.side.ask(partial(members.dismiss, token=self.token, lease=self.clock.lease))
            dismissed.update({name: (token, trio.current_time()) for token, name in gone})
            self.wake_up.notify()
        await self._take(seen)
        if 0.0 < self.clock.lease - silent < self.clock.interval:
            return self.clock.lease - silent
        return self.clock.interval

    async def look(self) -> Gathering:
        """Renew, and see who is there. Raises LeaseLost, JournalFailed."""
        self.gathering = await self.side.ask(partial(members.renew, token=self.token, pid=self.ours()))
        if not self.gathering.is_member:
            raise LeaseLost(
                "this process is no longer a member of the journal: it was silent for longer than its lease, and others do its work now, "
                "or a newer version changed the tables"
            )
        return self.gathering

    def _tell_dismissed(self, dismissed: dict[str, tuple[int, float]], there: Collection[str]) -> None:
        """Tell for a while whom this process has dismissed, until they are back under their names."""
        for name, (token, at) in tuple(dismissed.items()):
            is_over = name in there or trio.current_time() - at > DISMISSED_SHOWN
            text = f"{name} (member {token}) was silent for longer than its lease, and others do its work now"
            self.board.set("member-fenced", name, None if is_over else text)
            if is_over:
                del dismissed[name]

    async def _take(self, seen: Gathering) -> None:
        """Take the leases that are wanted and free, and let their components begin; give back what nobody here wants any more."""
        if free := self._wanted.keys() - seen.leases.keys():
            await self.side.ask(partial(members.take, token=self.token, names=free))
            seen = await self.look()
        for name in seen.of(self.token) - self._held:
            if (begins := self._wanted.pop(name, None)) is None:
                await self.journal.run(members.give_back, self.token, name)
            else:
                self._held.add(name)
                begins.set()

    async def hold(
        self,
        name: str,
        run: Callable[[], Awaitable[object]],
        meanwhile: Callable[[], Awaitable[object]] = trio.sleep_forever,
    ) -> None:
        """Wait for the lease, and run; see ``Membership``. What the database does not take back now is given back later."""
        try:
            if self._takes_more:
                begins = self._wanted[name] = trio.Event()
                self.wake_up.notify()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(meanwhile)
                    await begins.wait()
                    nursery.cancel_scope.cancel()
            if self._takes_more:
                await run()
        finally:
            self._wanted.pop(name, None)
            if name in self._held:
                self._held.discard(name)
                with trio.move_on_after(GIVING, shield=True), suppress(JournalFailed):
                    await self.journal.run(members.give_back, self.token, name)

    def stop_waiting(self) -> None:
        """Take no further lease; what is held stays. Repeating: no effect."""
        self._takes_more = False
        while self._wanted:
            self._wanted.popitem()[1].set()

    async def pick(
        self,
        kinds: Collection[Kind],
        now: float,
        limit: int,
        busy: frozenset[int],
        *,
        without: frozenset[int],
    ) -> Due:
        """Claim due rows, and set aside those that cannot be read; see ``Membership``."""
        shards = [shard for shard in range(self.shards) if shard not in without]
        claim = partial(members.claim, token=self.token, shards=self.shards, kinds=kinds, of_shards=shards)
        asked = self.claiming.ask(partial(claim, now=now, limit=limit, busy=busy))
        stored, next_due = await self.journal.failures.noting(asked)
        rows: list[Row] = []
        for one in stored:
            try:
                rows.append(read_row(one))
            except UNREADABLE:
                await self.journal.run(queries.row, one[0])
        return Due(tuple(rows), next_due)

    async def give_rows_back(self) -> None:
        """Let other processes pick what this one has picked, and look which others there are. Repeating: no effect."""
        with trio.move_on_after(GIVING, shield=True), suppress(JournalFailed):
            await self.journal.run(members.give_rows_back, self.token)
            await self.look()

    async def hear(self, topics: Topics, told: frozenset[str]) -> None:
        """Take what other processes have told; without anything, that they may have told something."""
        sends = any(name.startswith(SENDS) for name in self._held)
        if sends and (not told or any(topic.startswith("answered") for topic in told)):
            with suppress(JournalFailed):
                self.journal.note_tick(await self.claiming.ask(members.tick))
        tell(topics, told | {"due"} if "lease" in told else told)  # who is gone has left its rows

    async def leave(self) -> None:
        """Be a member no more, with the last commit of this process; beside the journal where that has ended, so that nobody waits."""
        with trio.move_on_after(GIVING, shield=True), suppress(JournalFailed):
            if self.journal.is_closed:
                await self.side.ask(partial(members.depart, token=self.token))
            else:
                await self.journal.run(members.leave, self.token)


@asynccontextmanager
async def open_member(
    journal: Journal, settings: Settings, ports: Ports, topics: Topics, on_event: OnEvent
) -> AsyncIterator[Member]:
    """Be a member of an open journal in PostgreSQL while the block lasts.

    Raises JournalFailed where the database cannot be asked; LeaseLost, in a group from inside, when the others have dismissed this process.
    Cancellation: the membership ends with the last commit.
    """
    address, lease, offload = settings.storage.journal, settings.storage.lease, ports.offload
    assert isinstance(address, PostgresAddress), "a file has one process"
    seconds = max(1, round(lease / 2))  # an answer that comes after the lease is no use
    limits = SessionLimits(lock=seconds, statement=seconds, reply=seconds + 1, stopped=seconds)
    side = SideSession(address, "membership", offload, limits)
    claiming = SideSession(address, "claims", offload, attrs.evolve(limits, is_fleeting=True))
    clock = LeaseClock(lease, trio.current_time())
    name = f"{settings.monitoring.service_name}@{socket.gethostname()}"
    ours = name, settings.work.roles, common_settings(settings)
    try:
        token = await side.ask(lambda batch: members.join(batch, *ours))
        board = Board(on_event, trio.current_time)
        member = Member(
            journal=journal,
            side=side,
            claiming=claiming,
            token=token,
            clock=clock,
            board=board,
            shards=len(settings.core.core_endpoints),
            ours=journal.join(token),
        )
        topics["lease"] = member.wake_up.notify
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(member.run)
                hear = partial(member.hear, topics)
                nursery.start_soon(listen, address, "listening", offload, hear, member.ours)
                if len(address.hosts) > 1:
                    alert = partial(board.set, "old-primary", JOURNAL)
                    nursery.start_soon(watch_servers, address, "servers", offload, alert)
                yield member
                nursery.cancel_scope.cancel()
        finally:
            await member.leave()  # noqa: ASYNC102 - shields itself, with a deadline
    finally:
        side.close()
        claiming.close()
