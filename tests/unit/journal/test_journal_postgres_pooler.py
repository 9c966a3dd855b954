"""A pooler in transaction mode is found by who serves which connection, however it hands them out; one in session mode is not."""

from __future__ import annotations

from collections import deque

import attrs
import pytest

from kmsconn.journal.postgres_servers import HELD, serves_by_transaction


@attrs.define
class Pool:
    """The server's processes behind a pooler: those that are idle, the next one first. ``takes_last``: the one that was used last."""

    idle: deque[int]
    takes_last: bool
    made: int = 100

    def hold(self) -> int:
        if self.idle:
            return self.idle.popleft()
        self.made += 1
        return self.made

    def ask(self) -> int:
        served = self.hold()
        if self.takes_last:
            self.idle.appendleft(served)
        else:
            self.idle.append(served)
        return served


@pytest.mark.parametrize("takes_last", [True, False])
@pytest.mark.parametrize("idle", range(8))
def test_a_pool_of_transactions_is_found(idle: int, *, takes_last: bool) -> None:
    pool = Pool(deque(range(1, idle + 1)), takes_last)
    assert serves_by_transaction(pool.ask, pool.hold)


def test_a_pool_of_one_is_found_before_somebody_would_wait() -> None:
    """All it has is held by then: to ask again would take as long as that."""
    asked = iter([1])
    assert serves_by_transaction(lambda: next(asked), lambda: 1)


def test_what_serves_one_connection_alone_is_no_such_pool() -> None:
    held = iter(range(2, 2 + HELD))
    assert not serves_by_transaction(lambda: 1, lambda: next(held))
    assert [*held] == []
