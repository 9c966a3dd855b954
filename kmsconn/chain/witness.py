"""A second opinion: the same question over a connection of its own, of another node where there is one. Never the first word, never alone.

What cannot be undone is done on the word of several nodes: the one that is followed, and some others, which must show the same chain.
Each is asked over a connection that is made for it and ends with the answer: to the configured URLs in turn, the one in use last; behind
one URL stand several nodes, as a rule. A chain with one node behind one URL has no other: there only time judges.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, TypeVar

import attrs

from kmsconn.chain.follower import Follower
from kmsconn.chain.keeper import LinkKeeper
from kmsconn.chain.logs import hash_of
from kmsconn.chain.port import Call, call_result
from kmsconn.errors import Unreachable

WITNESSES = 2
"""Where there are several URLs, and for what the next honest answer undoes."""
BEHIND_ONE_URL = 6
"""Where there is one URL: which node answers is chance there, and of two nodes one lies to all of so many only once in 64 times."""
DOUBLINGS = 5
"""Of the witnesses that an end needs which others have denied."""
REMEMBERED = 4096
"""Ends that were denied; of a forgotten one the usual number of witnesses is asked."""
LAG = 5.0  # seconds of blocks that a witness may be behind

W = TypeVar("W")


@attrs.define
class Denials:
    """How often another node denied an end, by what it is about. Each time doubles the witnesses that must agree at the next.

    Behind one URL all of them may be the node that lies. Without this, one that lies for ever would be believed at one of many looks.
    """

    _times: dict[Hashable, int] = attrs.field(factory=dict)

    def note(self, subject: Hashable) -> None:
        """Note that a witness said otherwise."""
        times = self._times.pop(subject, 0) + 1
        if len(self._times) >= REMEMBERED:
            del self._times[next(iter(self._times))]
        self._times[subject] = times

    def needed(self, subject: Hashable, witnesses: Sequence[W]) -> Sequence[W]:
        """Return the witnesses to be asked, each as often as it is to be asked: every time over another connection."""
        return [*witnesses] * 2 ** min(self._times.get(subject, 0), DOUBLINGS)


@attrs.frozen(eq=False)
class Witness:
    """Implements ``chain.port.SendingRpc``; ``place`` tells several apart. ``follower``: of a chain that is followed."""

    chain_id: int
    name: str
    keeper: LinkKeeper
    follower: Follower | None
    place: int

    def send(self, calls: Sequence[Call]) -> None:
        """Send nothing before there is a connection."""
        del calls

    async def call(self, method: str, *params: Any) -> Any:
        """Ask one question. Raises as ``batch``, and RpcError."""
        (outcome,) = await self.batch([Call(method, params)])
        return call_result(outcome)

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Ask one other node, which must show the chain that is followed. Raises Unreachable, Overloaded. Repeating: another connection."""
        anchor = None
        if self.follower is not None:
            head = self.follower.head
            anchor = self.follower.anchor(max(0, (head.number or 0) - head.blocks_in(LAG)))
        asked = [] if anchor is None else anchor.calls
        results = await self.keeper.aside([*asked, *calls], self.place)
        if anchor is not None and anchor.block is not None and hash_of(results[0]) != anchor.block.hash:
            raise Unreachable(
                f"{self.name}: a second node does not show block {anchor.block.number} as the first one did"
            )
        return results[len(asked) :]


def witnesses(
    chain_id: int, name: str, keeper: LinkKeeper, follower: Follower | None = None
) -> tuple[Witness, ...]:
    """Return those of a chain."""
    count = WITNESSES if len(keeper.urls) > 1 else BEHIND_ONE_URL
    return tuple(Witness(chain_id, name, keeper, follower, place) for place in range(count))
