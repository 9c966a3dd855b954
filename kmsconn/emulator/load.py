"""A load of requests at a steady rate, and the wait until the chain shows the end of it. Listens nowhere and prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, islice, repeat
from typing import Never

import attrs
import trio

from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.ground_truth import CommitteeGroundTruth, GroundTruth, Trace
from kmsconn.emulator.users import Prepared, Users

LAST_REPLY_TIMEOUT = 30.0
"""Seconds after the last request in which everything open may still be answered."""
AFTERMATH = 1.0
"""Seconds after the last answer in which a double would still come, and in which the connector sees its last replies land."""
STRAGGLERS_TIMEOUT = 5.0
"""Seconds after enough nodes have answered in which the others may still do so, before they count as missing."""
KEPT = 10.0
"""Seconds that the ciphertexts of an answered request are still kept."""
_TIDYING = 1.0


Followed = GroundTruth | CommitteeGroundTruth
"""What tells whether requests are answered: by one node, or by all of a committee."""


@attrs.frozen
class Load:
    """How many requests per second, for how many seconds, of which forms in turn (none named: all, drawn by chance).

    ``posts``: how many more per second relayers post over HTTP to each connector.
    ``prepared``: everything for them is made beforehand, so that nothing but sending is left to do while they are offered.
    """

    rate: float
    seconds: float
    forms: tuple[str, ...] = ()
    prepared: bool = False
    posts: float = 0.0

    @property
    def count(self) -> int:
        """How many requests it is."""
        return round(self.rate * self.seconds)


async def run_load(
    load: Load,
    traffic: Users[EmulatedDependencies],
    ground_truth: Followed,
    *,
    reply_timeout: float = LAST_REPLY_TIMEOUT,
) -> dict[bytes, str]:
    """Queue the requests, wait until all are answered or reply_timeout is over, and a little more for doubles; return as ``put_on``.

    Cancellation: at any time; ``ground_truth`` then tells how far it came.
    """
    async with trio.open_nursery() as nursery:
        await nursery.start(ground_truth.watch)
        nursery.start_soon(tidy, traffic, ground_truth)
        queued = await put_on(load, traffic, ground_truth, reply_timeout=reply_timeout)
        await trio.sleep(AFTERMATH)
        nursery.cancel_scope.cancel()
    return queued


async def put_on(
    load: Load,
    traffic: Users[EmulatedDependencies],
    ground_truth: Followed,
    *,
    reply_timeout: float = LAST_REPLY_TIMEOUT,
) -> dict[bytes, str]:
    """Queue the requests of a load, under a ground truth that watches, and wait until all are answered or reply_timeout is over.

    Returns the forms of the requests by their transactions.
    """
    queued = await _queue_all(load, traffic)
    with trio.move_on_after(reply_timeout):
        await _wait_answered(traffic, ground_truth, list(queued))
    return queued


async def _queue_all(load: Load, traffic: Users[EmulatedDependencies]) -> dict[bytes, str]:
    queued: dict[bytes, str] = {}
    coming = (traffic.prepare(form) for form in islice(_forms(load, traffic), load.count))
    requests = iter(await _all(coming)) if load.prepared else coming
    start = trio.current_time()
    for number in range(load.count):
        await trio.sleep_until(start + number / load.rate)
        request = next(requests)
        queued[traffic.send(request)] = request.form
    return queued


def _forms(load: Load, traffic: Users[EmulatedDependencies]) -> Iterator[str]:
    """Yield the forms of requests without end: those that are named in turn, else any by chance."""
    if load.forms:
        return cycle(load.forms)
    names = tuple(traffic.forms)
    return (traffic.random.choice(names) for _ in repeat(None))


async def _all(coming: Iterator[Prepared]) -> list[Prepared]:
    """Make them all; the dependencies go on serving meanwhile."""
    made = []
    for request in coming:
        made.append(request)
        await trio.lowlevel.checkpoint()
    return made


async def _wait_answered(
    traffic: Users[EmulatedDependencies], ground_truth: Followed, waiting: list[bytes]
) -> None:
    """Wait until every request is on the chain and answered. One that the contract refused is never there."""
    while waiting := [sent for sent in waiting if not _is_over(ground_truth.trace_of(sent))]:
        await traffic.dependencies.gateway.wait_change()


def _is_over(trace: Trace | None) -> bool:
    """Tell whether a request is answered, or whoever has not answered it is given up."""
    if trace is None or trace.answer is not None:
        return trace is not None
    return trace.agreed is not None and trace.agreed + STRAGGLERS_TIMEOUT <= trio.current_time()


async def tidy(
    traffic: Users[EmulatedDependencies],
    ground_truth: Followed,
    *,
    clock: Callable[[], float] = trio.current_time,
) -> Never:
    """Drop the ciphertexts of requests that were answered some time ago, until cancelled: a long load must not grow by them."""
    while True:
        await trio.sleep(_TIDYING)
        for transaction_hash in traffic.remembered:
            trace = ground_truth.trace_of(transaction_hash)
            if trace is not None and trace.answer is not None and trace.answer.at + KEPT <= clock():
                traffic.forget(transaction_hash)
