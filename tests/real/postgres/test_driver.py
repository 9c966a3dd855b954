"""The driver on a server: what it refuses, the order of writers, the plans of its queries, and servers that end in the middle."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import attrs
import psycopg
import pytest
import trio

from bench.cluster import Cluster
from kmsconn.config.description import PostgresAddress, Secret
from kmsconn.errors import (
    JournalFailed,
    JournalTooNew,
    JournalUnreachable,
    OutcomeUnknown,
    StartAgain,
    StartRefused,
)
from kmsconn.journal import inspecting, moves, postgres_schema, queries, recording, retention, rows
from kmsconn.journal.database import Database
from kmsconn.journal.journal import Journal, open_journal
from kmsconn.journal.postgres import PostgresDriver
from kmsconn.journal.postgres_schema import MIGRATIONS, VERSION, Migration
from kmsconn.journal.postgres_servers import connect
from kmsconn.journal.postgres_session import SessionLimits, call_of
from kmsconn.model.life import State
from kmsconn.transport.ports import offload_to_threads
from tests.unit.journal.samples import (
    ANSWER,
    BINDING,
    CHAIN,
    CONTRACT,
    KIND,
    SIGNER,
    arrival,
    keep,
    new_row,
    opened,
    read_of,
    signing,
    wall,
)
from tests.unit.journal.test_journal_groups import adds


def test_the_indices_of_another_number_of_shards_go_once_nobody_may_use_them(
    postgresql: Cluster, database: str
) -> None:
    address = postgresql.address(database)
    names = "SELECT string_agg(indexname, ' ' ORDER BY indexname) FROM pg_indexes WHERE indexname ~ '_due_'"
    opened(address, shards=1).close()
    postgresql.run("INSERT INTO member DEFAULT VALUES", database)
    opened(address, shards=2).close()
    both = "request_due_1 request_due_2"
    assert postgresql.run(names, database) == both
    postgresql.run("DELETE FROM member", database)
    opened(address, shards=2).close()
    assert postgresql.run(names, database) == "request_due_2"


def set_version(server: Cluster, database: str, value: str) -> None:
    """Say of a journal which version its tables have, and since which one they are compatible."""
    server.run(f"UPDATE meta SET value = '{value}' WHERE key = 'kmsconn_tables'", database)  # noqa: S608 - our own numbers


def open_at(address: PostgresAddress) -> None:
    opened(address).close()


# --- what is refused and what is made


def test_an_older_program_runs_on_tables_that_are_compatible(postgresql: Cluster, database: str) -> None:
    """The rolling upgrade: a newer program has added a column."""
    address = postgresql.address(database)
    open_at(address)
    postgresql.run("ALTER TABLE request ADD COLUMN newer bigint NOT NULL DEFAULT 7", database)
    set_version(postgresql, database, f"{VERSION + 1} {VERSION}")
    with closing(opened(address)) as db:
        assert new_row(db) == 1
    assert (
        postgresql.run("SELECT value FROM meta WHERE key = 'kmsconn_tables'", database)
        == f"{VERSION + 1} {VERSION}"
    )


def test_tables_that_need_a_newer_program_are_refused(postgresql: Cluster, database: str) -> None:
    address = postgresql.address(database)
    open_at(address)
    set_version(postgresql, database, f"{VERSION + 2} {VERSION + 1}")
    with pytest.raises(JournalTooNew, match="newer version"):
        open_at(address)


@pytest.mark.parametrize(("compatible_from", "left"), [(MIGRATIONS[-1].compatible_from, 1), (VERSION + 1, 0)])
def test_tables_that_exclude_older_programs_have_no_members_of_before(
    compatible_from: int, left: int, postgresql: Cluster, database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Each begins anew then, and is refused where it is too old; an addition leaves everybody alone."""
    address = postgresql.address(database)
    open_at(address)
    postgresql.run("INSERT INTO member (name) VALUES ('older')", database)
    newer = Migration(("ALTER TABLE request ADD COLUMN newer bigint NOT NULL DEFAULT 7",), compatible_from)
    monkeypatch.setattr(postgres_schema, "MIGRATIONS", (*MIGRATIONS, newer))
    monkeypatch.setattr(postgres_schema, "VERSION", VERSION + 1)
    open_at(address)
    open_at(address)
    assert postgresql.run("SELECT count(*) FROM member", database) == str(left)


def test_another_connector_s_journal_is_refused(path: PostgresAddress) -> None:
    open_at(path)
    with pytest.raises(StartRefused, match="tx sender"):
        opened(path, attrs.evolve(BINDING, sender=SIGNER))


def test_a_journal_that_is_not_there_is_not_made_for_a_look(postgresql: Cluster, database: str) -> None:
    db = Database(PostgresDriver(postgresql.address(database)), wall)
    with pytest.raises(StartRefused, match="there is no journal"):
        db.open(None)
    assert postgresql.run("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database) == "0"


def test_a_database_with_another_encoding_is_refused(postgresql: Cluster) -> None:
    postgresql.run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(StartRefused, match="LATIN1"):
        open_at(postgresql.address("latin"))
    postgresql.drop_database("latin")


def test_a_refusal_names_the_server_and_no_password(postgresql: Cluster, database: str) -> None:
    address = attrs.evolve(postgresql.address(database, tcp=True), password=Secret("hunter-2"))
    with pytest.raises(StartRefused, match="password authentication failed") as refusal:
        open_at(address)
    assert f"127.0.0.1:{postgresql.port}/{database}" in str(refusal.value)
    assert "hunter-2" not in "".join(traceback.format_exception(refusal.value))


def test_a_user_without_rights_is_refused_in_the_server_s_words(postgresql: Cluster, database: str) -> None:
    postgresql.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE ROLE guest LOGIN", database)
    with pytest.raises(StartRefused, match="permission denied for schema public"):
        open_at(attrs.evolve(postgresql.address(database), user="guest"))


# --- writers


def test_writers_wait_for_each_other_and_see_the_last_tick(path: PostgresAddress) -> None:
    with closing(opened(path)) as first, closing(opened(path)) as second:
        first.begin()
        new_row(first, 1)
        ticks: list[int] = []

        def other() -> None:
            second.begin()
            ticks.append(second.tick)
            new_row(second, 2)
            second.commit()

        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.2)
        assert ticks == []
        first.commit()
        thread.join()
        first.begin()
        assert (ticks, first.tick) == ([1], 2)


def test_a_process_that_stops_within_a_transaction_is_ended_for_the_others(path: PostgresAddress) -> None:
    limits = SessionLimits(lock=5, stopped=1)
    with (
        closing(
            Database(PostgresDriver(path, 1, lambda address, _, **__: connect(address, limits)), wall)
        ) as one,
        closing(opened(path)) as other,
    ):
        one.open(BINDING)
        one.begin()
        new_row(one)
        assert dict(one.execute("SELECT 1, 1").fetchall()) == {
            1: 1
        }  # the server waits for the next statement
        other.begin()
        assert other.execute("SELECT count(*) FROM request").fetchone() == (0,)
        with pytest.raises(psycopg.OperationalError, match="the connection is lost: terminating connection"):
            one.execute("SELECT 1").fetchall()
        assert not one.driver.is_begun


def test_a_lock_that_is_not_given_back_fails_a_group_in_time(path: PostgresAddress) -> None:
    limits = SessionLimits(lock=1)
    driver = PostgresDriver(path, 1, lambda address, _, **__: connect(address, limits))
    with closing(opened(path)) as one, closing(Database(driver, wall)) as other:
        other.open(BINDING)
        one.begin()
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.begin()
        one.commit()
        other.begin()


@contextmanager
def silent(process: int) -> Iterator[None]:
    """Let a process of the server say nothing more, and close nothing."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_a_silent_server_is_given_up_in_time(path: PostgresAddress) -> None:
    with closing(connect(path, SessionLimits(reply=1))) as session, silent(session.pid):
        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match="silent for too long"):
            session.exchange([call_of("SELECT 1")])
        assert 0.9 < time.monotonic() - began < 3
        assert session.is_lost


def test_batch_has_one_deadline_though_the_server_says_something_now_and_then(path: PostgresAddress) -> None:
    slow = call_of("SELECT repeat('x', 20000), pg_sleep(0.4)")
    with (
        closing(connect(path, SessionLimits(reply=1))) as session,
        pytest.raises(psycopg.OperationalError, match="silent for too long"),
    ):
        session.exchange([slow] * 9)


def test_a_commit_into_silence_is_unknown_and_the_next_start_finds_it(path: PostgresAddress) -> None:
    limits = SessionLimits(reply=1)
    driver = PostgresDriver(path, 1, lambda address, _, **__: connect(address, limits))
    with closing(Database(driver, wall)) as one:
        one.open(BINDING)
        one.begin()
        new_row(one)
        with silent(driver.batch.pid), pytest.raises(OutcomeUnknown, match="nobody can tell"):
            one.commit()
    with closing(opened(path)) as other:
        other.begin()  # behind the writers' lock: nothing of the other one can come any more
        assert other.execute("SELECT count(*) FROM request").fetchone() in {(0,), (1,)}


def test_a_commit_is_durable_whatever_the_server_s_default(path: PostgresAddress) -> None:
    with closing(connect(path, SessionLimits())) as session:
        (found,) = session.exchange([call_of("SELECT current_setting('synchronous_commit')")])
    assert found.rows == [("on",)]


def test_a_large_value_passes_both_ways(path: PostgresAddress) -> None:
    big = bytes(range(256)) * 40_000
    with closing(connect(path, SessionLimits())) as session:
        replies = session.exchange([call_of("SELECT ?::bytea", (big,))] * 3)
    assert [reply.rows for reply in replies] == [[(big,)]] * 3


# --- plans

NAMED_INDEX = re.compile(r"INDEXED BY (\w+)")
MODULES = (inspecting, queries, recording, retention, rows)


def statements() -> Iterator[tuple[str, str]]:
    """Return each statement that names an index, with the index."""
    for module in MODULES:
        for value in vars(module).values():
            if isinstance(value, str) and NAMED_INDEX.search(value):
                statement = value.format(shards=1) if "{shards}" in value else value
                yield statement, NAMED_INDEX.findall(statement)[0]


@pytest.fixture(scope="module")
def filled(journal_address: PostgresAddress) -> Iterator[psycopg.Connection]:
    """A journal as it is after a while: many rows that have ended, and some in work."""
    keywords: dict[str, Any] = journal_address.keywords()
    with psycopg.connect(**keywords, autocommit=True) as connection:
        connection.execute("TRUNCATE request RESTART IDENTITY")
        connection.execute(
            "INSERT INTO request (chain_id, contract, id, digest, kind, state, on_chain, block, log_index, block_hash, "
            "transaction_hash, next_attempt, max_wait, deadline, recorded_at, closed_at, nonce, included_block, log, residue) "
            "SELECT 31337, '\\xdc', int8send(n), int8send(n), 'public_decryption', "
            "CASE n % 400 WHEN 0 THEN 'pending' WHEN 1 THEN 'answered' WHEN 2 THEN 'signed' WHEN 3 THEN 'included' ELSE 'finalized' END, "
            "1, n / 4, n % 4, '\\x00', '\\x00', n, 60, 0, n, CASE WHEN n % 400 < 4 THEN NULL ELSE n END, n, n / 4, '\\x00', n "
            "FROM generate_series(1, 20000) AS n"
        )
        connection.execute("ANALYZE request")
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.execute("SET enable_seqscan = off")
        yield connection
        connection.execute("TRUNCATE request RESTART IDENTITY")


@pytest.mark.parametrize(("statement", "index"), list(statements()))
def test_a_query_uses_the_index_that_it_names(filled: psycopg.Connection, statement: str, index: str) -> None:
    """PostgreSQL takes no hint: its plans must come out so, for any values."""
    call = call_of(statement, AnyValues() if ":" in statement else [None] * statement.count("?"))
    filled.execute(b"PREPARE looked AS " + call.prepared.text)
    nothing = ", ".join(["NULL"] * len(call.dumped))
    plan = "\n".join(
        line
        for (line,) in filled.execute(
            f"EXPLAIN EXECUTE looked({nothing})".encode() if nothing else b"EXPLAIN EXECUTE looked"
        )
    )
    filled.execute("DEALLOCATE looked")
    used = r"request_due_\d+" if statement in EITHER else ALSO.get(index, index)
    assert re.search(rf" {used} ", plan), plan
    assert "Seq Scan on request" not in plan, plan


ALSO = {"request_included": "request_(included|final)"}
"""Here what is final has an index of its own."""
EITHER = {one.format(shards=1) for one in (queries._NEXT_SEEN, queries._IN_ORDER)}
"""Statements for which all indices of pending rows are as good, those of another number of shards too, which other tests leave behind.

Members have others in the place of the first, and the second sorts what it finds.
"""


class AnyValues(dict[str, Any]):
    """Values of whatever names."""

    def __missing__(self, name: str) -> None:
        return None


# --- journals with threads, and servers that end

CALLERS = 24


async def one_life(journal: Journal, number: int) -> int:
    """Take a request through its life, and repeat what failed; return how often that was."""
    failures = 0

    async def kept(operation: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal failures
        while True:
            try:
                return await journal.run(operation, *args, **kwargs)
            except JournalFailed:
                failures += 1
                await trio.sleep(0.05)

    seen = read_of(arrival(number, number), blocks=(number, number))
    await kept(recording.record, seen)
    (row,) = await kept(queries.of_request, CHAIN, CONTRACT, KIND, number)
    await kept(keep, row.rid)
    if row.state in {State.PENDING, State.ANSWERED}:  # else a start of before has done it
        await kept(moves.sign, signing(row.rid, number))
    await kept(moves.move, "confirm", row.rid, block=number)
    await kept(moves.move, "finalize", row.rid, block=number)
    return failures


async def test_many_lives_at_once_end_well_and_stay(path: PostgresAddress) -> None:
    async with (
        open_journal(path, BINDING, offload_to_threads, wall) as journal,
        trio.open_nursery() as nursery,
    ):
        for number in range(1, CALLERS + 1):
            nursery.start_soon(one_life, journal, number)
    async with open_journal(path, BINDING, offload_to_threads, wall) as journal:
        assert (await journal.run(queries.counts, 1000.0)).states == {(KIND, State.FINALIZED): CALLERS}


async def test_processes_write_in_one_order(path: PostgresAddress) -> None:
    """Each move has a tick of its own, and every life ends well."""
    async with (
        open_journal(path, BINDING, offload_to_threads, wall) as one,
        open_journal(path, BINDING, offload_to_threads, wall) as other,
    ):
        for journal in (one, other):
            join(journal, await one.run(joins))
        async with trio.open_nursery() as nursery:
            for number in range(1, CALLERS + 1):
                nursery.start_soon(one_life, one if number % 2 else other, number)
        assert (await one.run(queries.counts, 1000.0)).states == {(KIND, State.FINALIZED): CALLERS}
        assert await one.run(lambda db: db.tick) == 5 * CALLERS


def joins(db: Database) -> int:
    return int(db.execute("INSERT INTO member DEFAULT VALUES RETURNING token").fetchone()[0])


async def answering(outcomes: dict[int, Any], journal: Journal, rid: int) -> None:
    try:
        outcomes[rid] = await journal.run(keep, rid, ANSWER, 1.0)
    except JournalFailed as error:
        outcomes[rid] = error


@pytest.mark.parametrize("fails", ["a statement", "the end"])
async def test_a_group_whose_end_goes_in_one_round_trip_is_one_transaction(
    path: PostgresAddress, fails: str
) -> None:
    """Also where it fails only as it is kept, behind its last statement."""
    async with open_journal(path, BINDING, offload_to_threads, wall) as journal:
        join(journal, await journal.run(joins))
        rids = [await journal.run(adds(number)) for number in (1, 2)]
        deferred = "CONSTRAINT" if fails == "the end" else ""
        behind = "DEFERRABLE INITIALLY DEFERRED" if deferred else ""
        with psycopg.connect(**path.keywords(), autocommit=True) as other:
            other.execute(
                "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no second one'; END $$; "
                f"CREATE {deferred} TRIGGER refuses AFTER UPDATE ON request {behind} FOR EACH ROW WHEN (new.rid = {rids[1]}) "
                "EXECUTE FUNCTION refuses()".encode()
            )
            try:
                outcomes: dict[int, Any] = {}
                async with trio.open_nursery() as nursery:
                    for rid in rids:
                        nursery.start_soon(answering, outcomes, journal, rid)
                assert isinstance(outcomes[rids[1]], JournalFailed)
                assert "no second one" in str(outcomes[rids[1]])
                states = other.execute("SELECT state FROM request ORDER BY rid").fetchall()
                assert states == [("pending",) if deferred else ("answered",), ("pending",)]
            finally:
                other.execute("DROP TRIGGER refuses ON request; DROP FUNCTION refuses()")
        assert await journal.run(keep, rids[1], ANSWER, 1.0)


@pytest.mark.slow
async def test_lives_go_on_over_a_server_that_crashes_again_and_again(
    own_server: Cluster, postgresql: Cluster
) -> None:
    """Each transition stands once in the history of its row, whenever the server ended."""
    address = own_server.address(own_server.make_database())
    numbers, unfinished, disturbed, ended = iter(range(1, 10**6)), set[int](), 0, False

    async def live(journal: Journal) -> None:
        nonlocal disturbed
        while not ended:
            unfinished.add(number := next(numbers))
            disturbed += await one_life(journal, number)
            unfinished.discard(number)

    async def crash_again_and_again() -> None:
        nonlocal ended
        for _ in range(4):
            await trio.sleep(0.7)
            own_server.stop(signal.SIGQUIT)
            own_server.launch()
            await trio.to_thread.run_sync(own_server.wait_started)
        await trio.sleep(0.3)
        ended = True

    async with trio.open_nursery() as crashes:
        crashes.start_soon(crash_again_and_again)
        while not ended or unfinished:
            try:
                async with (
                    open_journal(address, BINDING, offload_to_threads, wall) as journal,
                    trio.open_nursery() as nursery,
                ):
                    join(journal, await journal.run(joins))
                    for number in tuple(unfinished):
                        nursery.start_soon(again, journal, number, unfinished)
                    for _ in range(8):
                        nursery.start_soon(live, journal)
            except* (StartAgain, JournalUnreachable, JournalFailed):
                disturbed += 1
    async with open_journal(address, BINDING, offload_to_threads, wall) as journal:
        lives = next(numbers) - 1
        assert disturbed > 0
        assert (await journal.run(queries.counts, 1000.0)).states == {(KIND, State.FINALIZED): lives}
        assert journal.failures.text == ""
        for number in range(1, lives + 1):
            (row,) = await journal.run(queries.of_request, CHAIN, CONTRACT, KIND, number)
            steps = [entry.step for entry in await journal.run(inspecting.history, row.rid)]
            assert steps == ["answer", "sign", "confirm", "finalize"]


async def again(journal: Journal, number: int, unfinished: set[int]) -> None:
    """Go on with a life that an end of the journal has cut."""
    await one_life(journal, number)
    unfinished.discard(number)


def join(journal: Journal, token: int) -> None:

    driver = journal._db.driver
    assert isinstance(driver, PostgresDriver)
    driver.join(token)
