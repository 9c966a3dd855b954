"""The leases of this process among several over one PostgreSQL journal: renews its place, takes what is free, dismisses who is silent.

The statements are in ``journal.members``. A process that finds itself dismissed ends with LeaseLost. While the database cannot be reached
nothing is broadcast, and everything else waits for the journal.

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
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Never

import attrs
import trio

from kmsconn.errors import JournalFailed, LeaseLost
from kmsconn.journal import members
from kmsconn.journal.members import Gathering
from kmsconn.journal.postgres_side import SideSession
from kmsconn.model.alerts import Board
from kmsconn.requests.membership import Membership
from kmsconn.transport.waiting import WakeUp

RENEWALS: Final = 4  # in a lease: three may fail
MARGIN: Final = 0.2  # of a lease


@attrs.define
class LeaseClock:
    """What one process knows of its renewals; times are of a clock that goes on while the process is stopped."""

    lease: float
    _sent: float = -math.inf
    """When the newest renewal that succeeded was sent."""
    _in_touch_since: float = -math.inf
    """Since when no renewal was missing for longer than a lease."""

    @property
    def interval(self) -> float:
        """Seconds between renewals."""
        return self.lease / RENEWALS

    def joined(self, sent: float) -> None:
        """Note that the process became a member by a question that was sent then."""
        self._sent, self._in_touch_since = sent, -math.inf

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


GIVING: Final = 2.0  # seconds for giving something back while everything else ends
SOONEST: Final = 0.02  # seconds between rounds at least
DISMISSED_SHOWN: Final = 300.0  # seconds for which it is told that another process was dismissed
MEMBERSHIP: Final = "membership"


@attrs.define(eq=False)
class Leases(Membership):
    """The place and the leases of one member; ``wake_up`` asks for the next look."""

    side: SideSession
    token: int
    clock: LeaseClock
    board: Board
    watchers: Sequence[Callable[[Gathering], None]] = ()
    """Told of each look at the members."""
    ours: Callable[[], int] = lambda: 0
    """Which of the server's processes serves the journal of this one."""
    gathering: Gathering = attrs.field(factory=lambda: Gathering(is_member=True))
    wake_up: WakeUp = attrs.field(factory=WakeUp)
    _wanted: dict[str, trio.Event] | None = attrs.field(factory=dict)
    """The leases that are waited for; None once no more is taken."""
    _held: set[str] = attrs.field(factory=set)
    """Those whose components run."""
    _dismissed: dict[str, tuple[int, float]] = attrs.field(factory=dict)
    """Whom this process has dismissed, by name: the token, and when."""

    async def run(self) -> Never:
        """Renew, take and dismiss for ever. Raises LeaseLost once the others have dismissed this process."""
        while True:
            began = trio.current_time()
            try:
                until = began + await self._round(began)
            except JournalFailed as error:
                late = (
                    ""
                    if self.clock.is_valid(trio.current_time())
                    else f"{error}: nothing is broadcast meanwhile"
                )
                self.board.set("lease-late", MEMBERSHIP, late)
                until = began + self.clock.interval / 2
            await trio.sleep(SOONEST)
            with trio.move_on_at(until):
                await self.wake_up.wait()

    async def _round(self, sent: float) -> float:
        """Renew, and do what follows from who is there; return the seconds until the next round."""
        held = {*self._held}
        seen = await self.look()
        self.clock.renewed(sent)
        self.board.set("lease-late", MEMBERSHIP, None)
        if lost := (held & self._held) - self._ours(seen):
            raise LeaseLost(f"the lease {min(lost)!r} of this process was taken away")
        self._tell_dismissed({one.name for one in seen.members})
        for watch in self.watchers:
            watch(seen)
        silent = max((one.silent for one in seen.members if one.token != self.token), default=0.0)
        if silent > self.clock.lease and self.clock.may_judge(trio.current_time()):
            await self._dismiss()
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

    def _ours(self, seen: Gathering) -> set[str]:
        return {name for name, token in seen.leases.items() if token == self.token}

    async def _dismiss(self) -> None:
        """Delete the members that were silent for a lease: their leases are free with that."""
        silent = partial(members.dismiss, token=self.token, lease=self.clock.lease)
        for token, name in await self.side.ask(silent):
            self._dismissed[name] = token, trio.current_time()
        self.wake_up.notify()

    def _tell_dismissed(self, there: Collection[str]) -> None:
        """Tell for a while whom this process has dismissed, until they are back under their names."""
        for name, (token, at) in tuple(self._dismissed.items()):
            is_over = name in there or trio.current_time() - at > DISMISSED_SHOWN
            text = f"{name} (member {token}) was silent for longer than its lease, and others do its work now"
            self.board.set("member-fenced", name, None if is_over else text)
            if is_over:
                del self._dismissed[name]

    async def _take(self, seen: Gathering) -> None:
        """Take the leases that are wanted and free, and let their components begin; give back what nobody here wants any more."""
        free = [name for name in self._wanted or () if name not in seen.leases]
        if free:
            await self.side.ask(partial(members.take, token=self.token, names=free))
            seen = await self.look()
        for name in self._ours(seen) - self._held:
            if self._wanted is None or name not in self._wanted:
                await self.journal.run(members.give_back, self.token, name)
            else:
                self._held.add(name)
                self._wanted.pop(name).set()

    async def hold(
        self,
        name: str,
        run: Callable[[], Awaitable[object]],
        meanwhile: Callable[[], Awaitable[object]] = trio.sleep_forever,
    ) -> None:
        """Wait for the lease; see ``Membership``."""
        try:
            await self._wait_for(name, meanwhile)
            if self._wanted is not None:
                await run()
        finally:
            await self._give_back(name)  # noqa: ASYNC102 - shields itself, with a deadline

    async def _wait_for(self, name: str, meanwhile: Callable[[], Awaitable[object]]) -> None:
        """Return once the lease is ours, or none is taken any more."""
        if self._wanted is None:
            return
        event = self._wanted[name] = trio.Event()
        self.wake_up.notify()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(meanwhile)
            await event.wait()
            nursery.cancel_scope.cancel()

    async def _give_back(self, name: str) -> None:
        """Give a lease back that is ours; what the database does not take now is given back later, or ends with the membership."""
        if self._wanted is not None:
            self._wanted.pop(name, None)
        if name in self._held:
            self._held.discard(name)
            with trio.move_on_after(GIVING, shield=True), suppress(JournalFailed):
                await self.journal.run(members.give_back, self.token, name)

    def stop_waiting(self) -> None:
        """Take no further lease; what is held stays. Repeating: no effect."""
        waiting, self._wanted = self._wanted or {}, None
        for event in waiting.values():
            event.set()
