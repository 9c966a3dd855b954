"""Which of several processes over one journal does what: the port that the task tree asks. Knows no database.

Components that must be there once take a lease and run while they hold it; rows of parallel pools are picked so that no two processes
work on one. A journal in SQLite has one process, which has everything (``Membership``). Alerts tell the roles that nobody has, and
settings that differ.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

import attrs
import trio

from kmsconn.config.assembly import differences
from kmsconn.config.description import Role
from kmsconn.journal import queries
from kmsconn.journal.journal import Journal
from kmsconn.journal.members import Gathering
from kmsconn.journal.queries import Due
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertRaised
from kmsconn.model.requests import Kind

LOOK_AGAIN = 30.0  # seconds after which the journal is looked at without being told to
SENDS: Final = "sends "  # begins the leases of transaction managers


@attrs.define(eq=False)
class Membership:
    """This process among those over its journal: here the only one. ``look_again``: seconds after which it looks without being told to.

    ``gathering``: who was there at the last look; ``token``: this process among them.
    """

    journal: Journal
    _takes_more: bool = attrs.field(default=True, init=False)
    look_again = LOOK_AGAIN
    gathering = Gathering(is_member=True)
    token = 0

    @property
    def has_successor(self) -> bool:
        """Whether another process goes on with what this one leaves, at once."""
        return False

    def is_valid(self) -> bool:
        """Say whether no other process can have taken over from this one by now. Asks nobody."""
        return True

    async def hold(
        self,
        name: str,  # noqa: ARG002 - every lease is ours
        run: Callable[[], Awaitable[object]],
        meanwhile: Callable[[], Awaitable[object]] = trio.sleep_forever,  # noqa: ARG002 - nothing is waited for
    ) -> None:
        """Run a component once its lease is ours, and give the lease back as it ends; ``meanwhile`` runs while another process has it.

        Without the lease nothing is run any more once ``stop_waiting`` was called. Cancellation: at any time; the lease is given back.
        """
        if self._takes_more:
            await run()

    def stop_waiting(self) -> None:
        """Take no further lease; what is held stays. Repeating: no effect."""
        self._takes_more = False

    async def pick(
        self,
        kinds: Collection[Kind],
        now: float,
        limit: int,
        busy: frozenset[int],
        *,
        without: frozenset[int],
    ) -> Due:
        """Return due rows as ``queries.due`` does; no other process gets them until they move, are deferred, or are given back.

        Raises JournalFailed. Repeating: rows of ours that are not ``busy`` are due again.
        """
        return await self.journal.run(queries.due, kinds, now, limit, busy, without=without)

    async def give_rows_back(self) -> None:
        """Let other processes pick what this one has picked and does not work on any more. Repeating: no effect."""


MISSING: Final = "role-missing"
DIFFER: Final = "settings-differ"
_LEFT_UNDONE: Final[Mapping[Role, str]] = {
    Role.HEAR: "nobody reads the contracts, and no request is recorded",
    Role.WORK: "requests are recorded, and nobody checks them or asks the Core",
    Role.SEND: "requests are answered, and nobody sends the replies",
}


def tell_missing_roles(board: Board, gathering: Gathering) -> None:
    """Tell the roles that nobody has: every process that is left does. Repeating: no effect."""
    there = {role for one in gathering.members for role in one.roles}
    for role in Role:
        text = f"no process over the journal has the role {role.value}: {_LEFT_UNDONE[role]}"
        remedy = f"start a process with {role.value}, or add it to `roles` of one that runs, and restart that"
        board.set(MISSING, f"role {role.value}", None if role.value in there else text, remedy=remedy)


def tell_different_settings(board: Board, gathering: Gathering) -> None:
    """Tell the options that the processes do not have alike: each has an alert, in every process. Repeating: no effect."""
    found = differences((one.label, one.settings) for one in gathering.members)
    board.show(DIFFER, [_differs(one.option, one.text) for one in found])


def _differs(option: str, text: str) -> AlertRaised:
    remedy = f"set {option} alike in all processes, and restart those that have it otherwise"
    return AlertRaised(option, DIFFER, f"the processes over the journal differ: {text}", remedy=remedy)
