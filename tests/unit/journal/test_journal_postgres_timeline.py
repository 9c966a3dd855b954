"""Which servers were left behind by a fail-over, and which are left to connect to."""

from __future__ import annotations

import pytest

from kmsconn.journal.postgres_servers import NewestTimelines, ServerTimeline, servers_of


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
