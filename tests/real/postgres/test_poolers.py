"""A pooler before the server: in session mode everything works, in transaction mode the start is refused and the doctor says why."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio

from bench.cluster import OWNER, Cluster, as_owner, give_to_owner
from kmsconn.config.description import PostgresAddress
from kmsconn.emulator.network import reserve_ports
from kmsconn.errors import JournalUnreachable, StartRefused
from kmsconn.journal.database import Database
from kmsconn.journal.postgres import PostgresDriver
from kmsconn.journal.postgres_servers import connect
from kmsconn.journal.postgres_session import SessionLimits
from kmsconn.operate.doctor.postgres import judge_postgres, look_at_postgres
from kmsconn.operate.doctor.probing import CheckStatus
from tests.real.postgres.crowd import LEASE, open_crowd
from tests.real.stores import listens
from tests.unit.journal.samples import BINDING, new_row, opened, wall

_INI = """
[databases]
* = host={folder} port={port} user={owner}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
server_round_robin = {round_robin}
"""


@contextmanager
def open_pooler(
    cluster: Cluster, program: Path, database: str, mode: str, *, size: int = 20, round_robin: bool = False
) -> Iterator[PostgresAddress]:
    """Run a pooler before a server while the block lasts, and return where it gives a database to everybody.

    ``program``: pgbouncer's.
    """
    with reserve_ports(1) as (port,):
        path = cluster.folder / f"pgbouncer-{port}.ini"
        path.write_text(
            _INI.format(
                folder=cluster.folder,
                port=cluster.port,
                owner=OWNER,
                own_port=port,
                mode=mode,
                size=size,
                round_robin=int(round_robin),
            )
        )
        give_to_owner(path)
        command = [*as_owner(), str(program), str(path)]
        with (cluster.folder / "pgbouncer.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603 - a program of Debian's package
        try:
            assert listens(process, port), "pgbouncer did not start"
            yield PostgresAddress(database, ("127.0.0.1",), (port,), OWNER)
        finally:
            process.kill()  # its way of ending waits for its clients
            process.wait()


MODES = ("transaction", "statement")


@pytest.fixture
def poolers(postgresql: Cluster, pgbouncer: Path, database: str) -> Iterator[Any]:
    """Poolers before a fresh database, by their modes."""
    with ExitStack() as stack:
        yield lambda mode, **options: stack.enter_context(
            open_pooler(postgresql, pgbouncer, database, mode, **options)
        )


def settings_of(address: PostgresAddress) -> str:
    """Return what is set in the server's process that a pooler gives to somebody."""
    keywords: dict[str, Any] = address.keywords()
    with psycopg.connect(autocommit=True, **keywords) as connection:
        ((found,),) = connection.execute("SHOW enable_seqscan").fetchall()
        return str(found)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("round_robin", [False, True])
def test_a_start_through_a_pool_of_transactions_is_refused(
    poolers: Any, mode: str, *, round_robin: bool
) -> None:
    """Nothing was made, and nothing set for those who are served after it."""
    address = poolers(mode, round_robin=round_robin)
    for _ in range(3):
        with pytest.raises(
            StartRefused, match=r"pooler in transaction mode.*connect to the server itself, or set pool_mode"
        ):
            opened(address)
    assert settings_of(address) == "on"


@pytest.mark.parametrize("mode", MODES)
def test_the_doctor_finds_a_pool_of_transactions(poolers: Any, mode: str) -> None:
    address = poolers(mode)
    place = look_at_postgres(address)
    (line,) = judge_postgres("journal", address, place, 4)
    assert line.status is CheckStatus.FAULT
    assert "transaction mode" in line.found


def test_a_pool_that_is_at_work_is_found_too(poolers: Any) -> None:
    """Others have transactions, and there are several idle processes."""
    address = poolers("transaction")
    keywords: dict[str, Any] = address.keywords()
    with ExitStack() as stack:
        several = [stack.enter_context(psycopg.connect(autocommit=True, **keywords)) for _ in range(6)]
        for one in several:
            one.execute("BEGIN")
            one.execute("SELECT 1")
        for one in several[:4]:
            one.execute("COMMIT")
        with pytest.raises(StartRefused, match="transaction mode"):
            opened(address)


def test_a_pooler_in_session_mode_is_no_matter(poolers: Any) -> None:
    address = poolers("session")
    with closing(opened(address)) as db:
        db.begin()
        new_row(db)
        db.commit()
    place = look_at_postgres(address)
    assert place.is_pooled
    assert "one in session mode stands before the server" in [
        line.found for line in judge_postgres("journal", address, place, 4)
    ]


def test_a_pool_without_a_free_connection_is_told(poolers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmsconn.journal.postgres_session.FIRST_REPLY", 0.3)
    with pytest.raises(JournalUnreachable, match="a pooler before the server may have no connection left"):
        opened(poolers("session", size=1))


def test_a_search_path_that_the_pooler_does_not_take_is_refused(poolers: Any) -> None:
    """It would never pass."""
    url = poolers("session")
    with pytest.raises(StartRefused, match="unsupported startup parameter") as refused:
        opened(
            PostgresAddress(
                url.database, url.hosts, url.ports, url.user, None, {"options": "-csearch_path=k"}
            )
        )
    assert not isinstance(refused.value, JournalUnreachable)


def test_a_connection_that_the_server_ends_is_lost_through_a_pooler_too(poolers: Any) -> None:
    """The pooler says why at the next question, and closes after it: nothing can be asked any more, nothing is undone by itself."""
    address = poolers("session")
    limits = SessionLimits(stopped=1)
    with (
        closing(
            Database(PostgresDriver(address, 1, lambda where, _, **__: connect(where, limits)), wall)
        ) as one,
        closing(opened(address)) as other,
    ):
        one.open(BINDING)
        one.begin()
        one.execute("SELECT 1").fetchall()
        other.begin()
        new_row(other)
        with pytest.raises(psycopg.OperationalError, match="the connection is lost: terminating connection"):
            one.execute("SELECT 1").fetchall()
        assert not one.driver.is_begun


async def test_several_processes_work_and_hand_over_through_a_pooler(
    poolers: Any, postgresql: Cluster
) -> None:
    address = poolers("session", size=40)
    async with open_crowd(address) as crowd, crowd.connector("one") as one:
        async with crowd.connector("two"):
            await crowd.wait(lambda: len(one.statistics().journal.members) == 2)
            crowd.ask("public", "direct", "delegated")
            await crowd.wait_answered(3)
            await trio.sleep(LEASE)
            served = "SELECT count(*) FROM presence JOIN pg_stat_activity USING (pid) WHERE application_name = 'kmsconn'"
            assert postgresql.run(served, address.database) == "2"
        crowd.ask("public")
        await crowd.wait_answered(4)
