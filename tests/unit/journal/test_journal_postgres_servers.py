"""Which servers were left behind by a fail-over, and which are left to connect to."""

from __future__ import annotations

from collections import deque

import attrs
import pytest

from kmsconn.journal.postgres_servers import (
    HELD,
    NewestTimelines,
    ServerTimeline,
    servers_of,
    serves_by_transaction,
)


@pytest.fixture
def met() -> NewestTimelines:
    made = NewestTimelines()
    made.note(ServerTimeline("one", 2))
    return made


@pytest.mark.parametrize(("number", "behind"), [(1, True), (2, False), (3, False)])
def test_a_server_is_behind_whose_timeline_is_lower_than_one_that_was_met(
    number: int, met: NewestTimelines, *, behind: bool
) -> None:
    assert met.is_behind(ServerTimeline("one", number)) is behind


def test_an_older_timeline_that_is_met_later_changes_nothing(met: NewestTimelines) -> None:
    met.note(ServerTimeline("one", 1))
    assert met.is_behind(ServerTimeline("one", 1))


@pytest.mark.parametrize("other", [ServerTimeline("two", 1), ServerTimeline()])
def test_what_is_no_copy_or_does_not_tell_is_not_compared(
    other: ServerTimeline, met: NewestTimelines
) -> None:
    met.note(other)
    assert not met.is_behind(other)


def test_the_words_name_both_timelines_and_the_remedy(met: NewestTimelines) -> None:
    said = met.say(ServerTimeline("one", 1))
    assert "its timeline is 1, and timeline 2 was met already; stop it, or make it a standby" in said


LISTED = {"host": "a,b,c", "port": "1,2,3", "dbname": "k"}


def test_each_of_several_servers_is_named_alone() -> None:
    found = servers_of(LISTED)
    assert found == [{**LISTED, "host": host, "port": port} for host, port in ("a1", "b2", "c3")]
    assert servers_of({**LISTED, "port": "2"}) == [{**LISTED, "host": host, "port": "2"} for host in "abc"]
    assert servers_of({"dbname": "k"}) == [{"dbname": "k"}]


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
