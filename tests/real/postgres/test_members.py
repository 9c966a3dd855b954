"""Members, leases and claims on a real server: tokens, silence, what a dead member leaves, and rows that nobody gets twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import takewhile
from typing import Any

import psycopg
import pytest

from kmsconn.config.description import PostgresAddress
from kmsconn.errors import LeaseLost
from kmsconn.journal import members, moves
from kmsconn.journal.database import Database
from kmsconn.journal.postgres import Batch, PostgresDriver
from kmsconn.journal.postgres_schema import VERSION
from kmsconn.journal.postgres_servers import connect
from kmsconn.journal.postgres_session import SessionLimits, call_of
from kmsconn.journal.rows import read_row
from kmsconn.model.requests import Kind
from tests.unit.journal.samples import ANSWER, CHAIN, keep, new_row, opened, signing

Claimed = tuple[list[tuple[Any, ...]], float | None]

KIND = Kind.PUBLIC_DECRYPTION.value
NOW = 1e12  # long after the rows of these tests are due


def plain(path: PostgresAddress) -> psycopg.Connection[Any]:
    """Connect as anybody may."""
    keywords: dict[str, Any] = {**path.keywords()}
    return psycopg.connect(autocommit=True, **keywords)


@contextmanager
def session(path: PostgresAddress) -> Iterator[Batch]:
    with closing(Batch(partial(connect, path, SessionLimits()))) as made:
        made.connect()
        yield made


def join(side: Batch, name: str = "one") -> int:
    return members.join(side, name, ("hear", "send", "work"))


def claim(
    side: Batch, token: int, *, limit: int = 9, now: float = NOW, busy: Collection[int] = (), shards: int = 1
) -> Claimed:
    return members.claim(side, token, shards, kinds=(KIND,), of_shards=(0,), now=now, limit=limit, busy=busy)


def rids(claimed: Claimed) -> list[int]:
    return [read_row(stored).rid for stored in claimed[0]]


def record(db: Database, *ids: int) -> None:
    db.begin()
    for one in ids:
        new_row(db, one)
    db.commit()


def test_a_token_is_never_used_twice(path: PostgresAddress, db: Database) -> None:
    with session(path) as side:
        first = join(side)
        db.begin()
        db.execute("DELETE FROM member WHERE token = ?", (first,))
        db.commit()
        assert join(side) > first


def test_a_member_sees_the_others_with_their_leases(path: PostgresAddress, db: Database) -> None:
    with session(path) as side:
        one, two = join(side, "one"), join(side, "two")
        members.take(side, two, ["reads", "sends"])
        seen = members.renew(side, one, 0)
        assert seen.is_member
        assert [(row.token, row.name, "hear" in row.roles) for row in seen.members] == [
            (one, "one", True),
            (two, "two", True),
        ]
        assert seen.leases == {"reads": two, "sends": two}
        assert all(0 <= row.silent < 10 for row in seen.members)


def test_a_member_sees_the_settings_of_the_others(path: PostgresAddress, db: Database) -> None:
    with session(path) as side:
        one = join(side, "one")
        two = members.join(side, "two", (), {"lease": "5s", "audit_log": "a file"})
        seen = {row.token: row.settings for row in members.renew(side, one, 0).members}
        assert seen == {one: {}, two: {"lease": "5s", "audit_log": "a file"}}


def test_a_lease_has_one_holder_until_it_is_given_back(path: PostgresAddress, db: Database) -> None:
    with session(path) as side:
        one, two = join(side), join(side)
        members.take(side, one, ["reads"])
        members.take(side, two, ["reads"])
        assert [*members.renew(side, one, 0).leases.values()] == [one]
        db.begin()
        assert not members.give_back(db, two, "reads")
        assert members.give_back(db, one, "reads")
        db.commit()
        members.take(side, two, ["reads"])
        assert [*members.renew(side, one, 0).leases.values()] == [two]


def test_who_is_no_member_takes_no_lease(path: PostgresAddress, db: Database) -> None:
    with session(path) as side, pytest.raises(psycopg.Error):
        members.take(side, 4711, ["reads"])


def test_a_silent_member_goes_with_its_leases_and_a_lively_one_stays(
    path: PostgresAddress, db: Database
) -> None:
    with session(path) as side:
        one, two, three = join(side, "one"), join(side, "two"), join(side, "three")
        members.take(side, two, ["reads"])
        silence(path, two, 6.0)
        silence(path, three, 4.0)
        assert members.dismiss(side, one, 5.0) == [(two, "two")]
        seen = members.renew(side, one, 0)
        assert [row.token for row in seen.members] == [one, three]
        assert seen.leases == {}
        assert not members.renew(side, two, 0).is_member


def silence(path: PostgresAddress, token: int, seconds: float) -> None:
    """Let a member have renewed that long ago."""
    with plain(path) as other:
        other.execute(
            "UPDATE presence SET renewed_at = clock_timestamp() - make_interval(secs => %s) WHERE token = %s",
            (seconds, token),
        )


def test_who_is_dismissed_in_a_transaction_holds_nobody_up(path: PostgresAddress, db: Database) -> None:
    """A process was stopped between two statements: its connection is ended, and what it had begun undone."""
    with session(path) as side:
        one, two = join(side, "one"), join(side, "two")
        driver_of(db).join(two)
        record(db, 1)
        members.renew(side, two, driver_of(db).batch.pid)
        db.begin()
        new_row(db, 2)
        db.execute("SELECT 1").fetchall()
        time.sleep(0.3)
        began = time.monotonic()
        assert members.dismiss(side, one, 0.2) == [(two, "two")]
        assert time.monotonic() - began < 2
        assert len(rids(claim(side, one))) == 1
    db.driver.close()


def test_the_connection_of_a_lively_member_is_left_alone(path: PostgresAddress, db: Database) -> None:
    with session(path) as side:
        one, two = join(side, "one"), join(side, "two")
        members.renew(side, two, driver_of(db).batch.pid)
        assert members.dismiss(side, one, 5.0) == []
        record(db, 1)


def test_nobody_declares_itself_gone(path: PostgresAddress, db: Database) -> None:
    with session(path) as side:
        one = join(side)
        silence(path, one, 60.0)
        assert members.dismiss(side, one, 5.0) == []


def test_a_dismissed_member_changes_nothing_more(path: PostgresAddress, db: Database) -> None:
    """The token stands in each commit: what it was about to write is rolled back."""
    with session(path) as side:
        one, two = join(side), join(side)
        driver_of(db).join(two)
        record(db, 1)
        silence(path, two, 6.0)
        members.dismiss(side, one, 5.0)
        with pytest.raises(LeaseLost):
            record(db, 2)
        assert len(rids(claim(side, one))) == 1


def driver_of(db: Database) -> PostgresDriver:
    assert isinstance(db.driver, PostgresDriver)
    return db.driver


def test_two_members_never_claim_the_same_row(path: PostgresAddress, db: Database) -> None:
    record(db, 1, 2, 3, 4, 5)
    with session(path) as side:
        one, two = join(side), join(side)
        first = rids(claim(side, one, limit=2))
        second = rids(claim(side, two))
        assert (len(first), len(second)) == (2, 3)
        assert not {*first} & {*second}


def test_rows_that_another_process_is_just_claiming_are_passed_over(
    path: PostgresAddress, db: Database
) -> None:
    """Nobody waits for the other's transaction."""
    record(db, 1, 2)
    with session(path) as side, ExitStack() as stack:
        one = join(side)
        other = stack.enter_context(plain(path))
        other.execute("BEGIN")
        other.execute("SELECT rid FROM request ORDER BY rid LIMIT 1 FOR UPDATE")
        assert len(rids(claim(side, one))) == 1


def test_rows_of_ours_are_due_again_unless_they_are_busy(path: PostgresAddress, db: Database) -> None:
    record(db, 1, 2)
    with session(path) as side:
        one = join(side)
        first = rids(claim(side, one))
        assert rids(claim(side, one, busy=first[:1])) == first[1:]


def test_who_moves_or_defers_a_row_gives_it_up(path: PostgresAddress, db: Database) -> None:
    record(db, 1, 2, 3)
    with session(path) as side:
        one, two = join(side), join(side)
        first = rids(claim(side, one))
        db.begin()
        assert moves.defer(db, first[0], NOW - 1, "wait")
        keep(db, first[1], ANSWER, NOW)
        db.commit()
        assert rids(claim(side, two)) == first[:1]


def test_what_a_dead_member_had_claimed_is_free(path: PostgresAddress, db: Database) -> None:
    record(db, 1)
    with session(path) as side:
        one, two = join(side), join(side)
        claimed = rids(claim(side, one))
        assert rids(claim(side, two)) == []
        silence(path, one, 6.0)
        members.dismiss(side, two, 5.0)
        assert rids(claim(side, two)) == claimed


def test_what_is_given_back_is_free(path: PostgresAddress, db: Database) -> None:
    record(db, 1, 2)
    with session(path) as side:
        one, two = join(side), join(side)
        claimed = rids(claim(side, one))
        db.begin()
        assert members.give_rows_back(db, one) == 2
        db.commit()
        assert sorted(rids(claim(side, two))) == sorted(claimed)


def test_who_is_no_member_claims_nothing(path: PostgresAddress, db: Database) -> None:
    record(db, 1)
    with session(path) as side:
        assert rids(claim(side, 4711)) == []


def test_the_time_of_the_next_row_is_told(path: PostgresAddress, db: Database) -> None:
    record(db, 1, 2)
    with session(path) as side:
        one = join(side)
        now = db.wall()
        first, second = rids(claim(side, one))
        db.begin()
        moves.defer(db, first, now + 7.0, "wait")
        moves.defer(db, second, now + 9.0, "wait")
        db.commit()
        claimed = claim(side, one, now=now)
        assert (rids(claimed), claimed[1]) == ([], now + 7.0)


def test_a_claim_waits_for_no_disk(path: PostgresAddress) -> None:
    """What a crash of the server undoes of it is claimed again."""
    made = connect(path, SessionLimits(is_fleeting=True))
    (found,) = made.exchange([call_of("SELECT current_setting('synchronous_commit')")])
    made.close()
    assert found.rows == [("off",)]


def test_others_are_told_of_what_somebody_may_wait_for(path: PostgresAddress, db: Database) -> None:
    """A request that appears, one that is answered; not what the transaction manager alone does."""
    record(db, 1)
    with plain(path) as other:
        other.execute("LISTEN kmsconn")
        record(db, 2)
        steps: tuple[Callable[[], object], ...] = (
            lambda: keep(db, 2, ANSWER, 1.0),
            lambda: moves.sign(db, signing(2, 7)),
            lambda: moves.move(db, "confirm", 2, block=9),
            lambda: moves.move(db, "finalize", 2, block=9),
        )
        for step in steps:
            db.begin()
            assert step()
            db.commit()
        told = told_to(other)
    assert told == [f"due {KIND}", f"answered {CHAIN}"]


def told_to(listening: psycopg.Connection[Any]) -> list[str]:
    """Return what was told until now: the server keeps the order, and what we say ourselves comes last."""
    listening.execute("NOTIFY kmsconn, 'that is all'")
    told = (notice.payload for notice in listening.notifies(timeout=60))
    return list(takewhile(lambda one: one != "that is all", told))


def test_a_member_that_is_alone_tells_nobody(path: PostgresAddress, db: Database) -> None:
    """Nobody listens but itself; that another one has joined it finds with its next commit."""
    with session(path) as side, plain(path) as other:
        other.execute("LISTEN kmsconn")
        driver_of(db).join(join(side, "one"))
        record(db, 1)
        alone = told_to(other)
        join(side, "two")
        record(db, 2)
        told = told_to(other)
    assert (alone, told) == ([], [f"due {KIND}"])


def test_only_the_shards_that_are_wanted_are_claimed(path: PostgresAddress, db: Database) -> None:
    other = opened(path, shards=2)
    record(other, 2, 3, 4)
    with session(path) as side:
        one = join(side)
        claimed = claim(side, one, shards=2)
        assert [read_row(stored).id % 2 for stored in claimed[0]] == [0, 0]
    other.close()


def test_the_rows_that_are_due_longest_come_first(path: PostgresAddress, db: Database) -> None:
    record(db, 1, 2, 3)
    with session(path) as side:
        one = join(side)
        for_all = rids(claim(side, one))
        db.begin()
        for wait, rid in enumerate(reversed(for_all)):
            moves.defer(db, rid, 100.0 + wait, "wait")
        db.commit()
        assert rids(claim(side, one, limit=2)) == [*reversed(for_all)][:2]


def test_a_claim_walks_over_no_closed_row(path: PostgresAddress, db: Database) -> None:
    """Its plan takes the due rows from their index, in their order."""
    plan = "\n".join(line for (line,) in explained(path))
    assert "request_due_1" in plan
    assert "Seq Scan on request" not in plan
    assert "Sort" not in plan.partition("CTE due")[2].partition("->  CTE Scan on line")[2]


def explained(path: PostgresAddress) -> list[tuple[str]]:
    due = members._CLAIM.format(shards=1)
    values = {"kinds": f'["{KIND}"]', "shards": "[0]", "now": 1.0, "me": 1, "limit": 5, "busy": "[]"}
    with session(path) as side:
        return side.execute(f"EXPLAIN {due}", values).fetchall()


def test_a_member_that_leaves_is_gone_with_its_leases(path: PostgresAddress, db: Database) -> None:
    with session(path) as side:
        one, two = join(side), join(side)
        members.take(side, one, ["reads"])
        driver_of(db).join(one)
        db.begin()
        members.leave(db, one)
        db.commit()
        record(db, 1)  # what comes behind is not guarded
        seen = members.renew(side, two, 0)
        assert ([row.token for row in seen.members], seen.leases) == ([two], {})


def test_who_joins_tables_that_have_become_too_new_is_no_member(path: PostgresAddress) -> None:
    """They were changed between the opening and the joining."""
    with session(path) as side, plain(path) as beside:
        beside.execute(
            "UPDATE meta SET value = %s WHERE key = 'kmsconn_tables'", (f"{VERSION + 1} {VERSION + 1}",)
        )
        try:
            with pytest.raises(LeaseLost, match="newer version"):
                join(side)
            assert beside.execute("SELECT count(*) FROM member").fetchone() == (0,)
        finally:
            beside.execute(
                "UPDATE meta SET value = %s WHERE key = 'kmsconn_tables'", (f"{VERSION} {VERSION}",)
            )
        assert join(side) > 0
