"""Asks each endpoint of the Core every ten seconds whether it serves (grpc.health.v1): one that is gone is known before it is needed.

While the link to one is down nothing is dispatched for it: its requests would be checked and their ciphertexts fetched in vain.
A health check that fails over a link that stands is an alert and no more: requests may pass all the same.

A Core without the health service says UNIMPLEMENTED, which shows that it is there. Source: kms-core-grpc.md section 1.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from typing import Never

import attrs
import trio

from kmsconn.core.client import CoreClient
from kmsconn.errors import Unreachable
from kmsconn.model.causes import cause_of
from kmsconn.model.events import AlertRaised
from kmsconn.requests.snapshot import CoreStatistics

HEALTH_CHECK_INTERVAL = 10.0  # seconds between checks of an endpoint that serves
SOONEST = 0.1  # seconds between two checks, whatever is asked for
AGAIN = 1.0  # seconds until one that does not is asked again
ENDPOINT_FAILURE_GRACE = 3.0
"""Seconds that an endpoint may fail before it is said: a Core that restarts, a connection that breaks."""
GONE_AGAIN = 30.0  # seconds until one whose health check fails, but is answered, is tried by requests again: it may take them

CAUSE = "unreachable"
CONNECTION = frozenset({"calls-fail", "too-slow"})
"""Causes that say nothing more than the health of the Core does."""


async def _nothing(_index: int, *, served: bool) -> None:
    pass


@attrs.define
class CoreHealth:
    """The last answers of the endpoints. ``limit`` is how long one may take to answer, in seconds."""

    core: CoreClient
    limit: float
    on_recovery: Callable[..., Awaitable[None]] = _nothing
    """Is told which endpoint serves again, or is connected to anew: another Core may stand there. ``served``: it has not said otherwise."""
    _wrong: dict[int, tuple[float, str]] = attrs.field(factory=dict)
    """Since when an endpoint does not serve, and what was said last."""
    _unreached: dict[int, float] = attrs.field(factory=dict)
    """When the last call to an endpoint found no connection or got no answer, be it of a request or of the health check."""
    _connections: dict[int, int] = attrs.field(factory=dict)
    _served: dict[int, trio.Event] = attrs.field(factory=dict)
    _served_at: dict[str, float] = attrs.field(factory=dict)
    _suspected: dict[str, float] = attrs.field(factory=dict)
    _asked_for: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> Never:
        """Ask for ever. Cancellation: at any time."""
        async with trio.open_nursery() as nursery:
            for index in range(len(self.core.endpoints)):
                nursery.start_soon(self._watch, index)
        raise AssertionError("a Core has an endpoint")

    async def wait_served(self) -> None:
        """Return once every endpoint has served."""
        for index in range(len(self.core.endpoints)):
            await self._first(index).wait()

    def alerts(self, now: float) -> Iterator[AlertRaised]:
        """Return an alert for each endpoint that does not serve; shards do not stand in for each other, so what is of one waits for it."""
        shards = len(self.core.endpoints)
        waits = f"; {100 / shards:.0f} % of the requests are of this shard, and wait" if shards > 1 else ""
        for index, (since, text) in self._wrong.items():
            if now - since >= ENDPOINT_FAILURE_GRACE:
                usual = cause_of(CAUSE).remedy
                remedy = self.core.remedy(index, text)
                remedy = f"{remedy}; requests wait and none is lost" if remedy else usual
                yield AlertRaised(self.core.endpoints[index], CAUSE, f"{text}{waits}", remedy=remedy)

    def statistics(self) -> Mapping[str, CoreStatistics]:
        """Return what is known of each endpoint."""
        names = self.core.endpoints
        wrong = {names[index]: CoreStatistics(False, text) for index, (_, text) in self._wrong.items()}
        return {name: CoreStatistics(True if name in self._served_at else None) for name in names} | wrong

    @property
    def gone(self) -> frozenset[int]:
        """The endpoints whose links are down: they do not serve, and of late calls did not reach them."""
        since = trio.current_time() - GONE_AGAIN
        return frozenset({index for index, at in self._unreached.items() if at > since} & self._wrong.keys())

    def note_call(self, index: int, *, reached: bool) -> None:
        """Note whether a request's call got an answer of any kind; where it did not the endpoint is asked at once."""
        before = self._unreached.pop(index, None)
        if not reached:
            self._unreached[index] = trio.current_time()
            if before is None:
                self._ask_now()

    def _ask_now(self) -> None:
        self._asked_for.set()
        self._asked_for = trio.Event()

    def suspect(self, names: Collection[str], now: float) -> set[str]:
        """Take the endpoints to which calls fail, and return those of them that say that they serve all the same.

        They are asked at once, not in their turn, so that an endpoint that is gone is one alert and not two.
        """
        self._suspected = {name: self._suspected.get(name, now) for name in names}
        if now in self._suspected.values():
            self._ask_now()
        return {name for name, since in self._suspected.items() if self._served_at.get(name, -1.0) > since}

    async def _watch(self, index: int) -> Never:
        while True:
            wrong, served = await self._ask(index), index not in self._wrong
            if self._note(index, wrong, trio.current_time()):
                await self.on_recovery(index, served=served)
            with trio.move_on_after(AGAIN if wrong else HEALTH_CHECK_INTERVAL):
                await self._asked_for.wait()
            await trio.sleep(SOONEST)

    def _note(self, index: int, wrong: str, now: float) -> bool:
        """Note what a health check said; say whether the endpoint serves again, or over another connection than before."""
        if wrong:
            since, _ = self._wrong.get(index, (now, ""))
            self._wrong[index] = since, wrong
            return False
        self._served_at[self.core.endpoints[index]] = now
        self._first(index).set()
        self._unreached.pop(index, None)
        was_wrong, connections = self._wrong.pop(index, None), self.core.connections(index)
        before, self._connections[index] = self._connections.get(index, connections), connections
        return was_wrong is not None or before != connections

    async def _ask(self, index: int) -> str:
        try:
            with trio.move_on_after(self.limit):
                return await self.core.health(index)
        except Unreachable as error:
            self._unreached[index] = trio.current_time()
            return str(error)
        if index in self._unreached:  # a hung one is no nearer
            self._unreached[index] = trio.current_time()
        return f"accepts calls and does not answer for {self.limit:g} s"

    def _first(self, index: int) -> trio.Event:
        return self._served.setdefault(index, trio.Event())
