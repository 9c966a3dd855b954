"""Two servers that both take writes, one of them promoted: connections, a journal and a listener use that one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest
import trio

from bench.cluster import OWNER, UNSYNCED, Cluster, open_cluster, open_standby
from kmsconn.config.description import PostgresAddress, Secret
from kmsconn.errors import JournalUnreachable, JournalWentBack, LeaseLost
from kmsconn.journal import postgres_servers, postgres_side
from kmsconn.journal.postgres_servers import Timeline, connect, look_around
from kmsconn.journal.postgres_session import SessionLimits, call_of
from kmsconn.journal.postgres_side import listen
from kmsconn.model.events import AlertRaised
from kmsconn.transport.ports import offload_to_threads
from tests.real.postgres.crowd import LEASE, Crowd, open_crowd
from tests.unit.journal.samples import opened

pytestmark = pytest.mark.rotating

DATABASE = "postgres"
TICK = "SELECT value FROM meta WHERE key = 'tick'"
REFUSED = r"was left behind by a fail-over: its timeline is 1, and timeline 2 was met already; stop it"


def address_of(*servers: Cluster, user: str = OWNER) -> PostgresAddress:
    """Return the address of servers in an order."""
    ports = tuple(one.port for one in servers)
    hosts, password = ("127.0.0.1",) * len(ports), Secret(servers[0].password)
    return PostgresAddress(DATABASE, hosts, ports, user, password, {"target_session_attrs": "read-write"})


@attrs.frozen
class Fork:
    """``old`` was the primary, and is back; ``new`` was its standby, and was promoted."""

    old: Cluster
    new: Cluster

    @property
    def both(self) -> PostgresAddress:
        """Both, the old one first."""
        return address_of(self.old, self.new)


@pytest.fixture(scope="module")
def fork(postgresql_programs: Path) -> Iterator[Fork]:
    with open_cluster(postgresql_programs, **UNSYNCED) as old, open_standby(old) as new:
        old.run(f"CREATE ROLE plain LOGIN PASSWORD '{old.password}'")
        while new.run("SELECT count(*) FROM pg_roles WHERE rolname = 'plain'") == "0":
            pass
        old.stop(signal.SIGQUIT)
        new.run("SELECT pg_promote()")
        old.start()
        yield Fork(old, new)


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> set[Timeline]:
    """What the process has met: nothing, as at its start."""
    made = set[Timeline]()
    monkeypatch.setattr(postgres_servers, "MET", made)
    return made


def port_of(session: Any) -> int:
    """Return the port of the server that a session has."""
    ((port,),) = session.exchange([call_of("SELECT inet_server_port()")])[0].rows
    return int(port)


def reached(address: PostgresAddress) -> int:
    """Return the port of the server to which an address leads."""
    session = connect(address, SessionLimits())
    try:
        return port_of(session)
    finally:
        session.close()


def test_without_a_newer_timeline_the_first_server_is_taken(fork: Fork, met: set[Timeline]) -> None:
    assert reached(fork.both) == fork.old.port


@pytest.mark.parametrize("user", [OWNER, "plain"])
def test_a_server_that_was_left_behind_is_passed_over(user: str, fork: Fork, met: set[Timeline]) -> None:
    """Also by a user without any right."""
    assert reached(address_of(fork.new, user=user)) == fork.new.port
    assert reached(address_of(fork.old, fork.new, user=user)) == fork.new.port


def test_a_single_server_that_was_left_behind_is_refused(fork: Fork, met: set[Timeline]) -> None:
    reached(address_of(fork.new))
    with pytest.raises(psycopg.OperationalError, match=REFUSED):
        reached(address_of(fork.old))
    with pytest.raises(JournalUnreachable, match=REFUSED):
        opened(address_of(fork.old))


def test_what_other_servers_say_stands_beside_the_refusal(fork: Fork, met: set[Timeline]) -> None:
    reached(address_of(fork.new))
    address = attrs.evolve(
        address_of(fork.old, fork.old), hosts=("127.0.0.1", "127.0.0.1"), ports=(fork.old.port, 1)
    )
    with pytest.raises(psycopg.OperationalError, match=f"(?s){REFUSED}.*port 1 failed"):
        reached(address)


def test_a_connection_to_the_old_server_is_given_up_once_a_newer_timeline_is_met(
    fork: Fork, met: set[Timeline]
) -> None:
    session = connect(fork.both, SessionLimits())
    assert (port_of(session), session.is_lost) == (fork.old.port, False)
    reached(address_of(fork.new))
    assert session.is_lost
    with pytest.raises(psycopg.OperationalError, match=f"the connection is lost: its server {REFUSED}"):
        port_of(session)


def test_who_begins_looks_at_all_servers(fork: Fork, met: set[Timeline]) -> None:
    opened(fork.both).close()
    journals = "SELECT count(*) FROM pg_tables WHERE tablename = 'meta'"
    assert [one.run(journals) for one in (fork.old, fork.new)] == ["0", "1"]


def test_a_look_tells_who_was_left_behind(fork: Fork, met: set[Timeline]) -> None:
    said = look_around(fork.both)
    assert said.startswith(f"the server at 127.0.0.1, port {fork.old.port} was left behind")
    assert look_around(address_of(fork.new)) == ""


def test_a_server_that_does_not_tell_is_taken(fork: Fork, met: set[Timeline]) -> None:
    """As managed ones may refuse it."""
    reached(address_of(fork.new))
    fork.old.run("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM public")
    try:
        assert reached(address_of(fork.old, user="plain")) == fork.old.port
    finally:
        fork.old.run("GRANT EXECUTE ON FUNCTION pg_control_system() TO public")


async def test_a_listener_moves_to_the_new_server(
    fork: Fork, met: set[Timeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_side, "LOOK_AROUND", 0.1)
    send, heard = trio.open_memory_channel[frozenset[str]](10)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, fork.both, "listening", offload_to_threads, send.send, int)
            await heard.receive()
            reached(address_of(fork.new))
            await heard.receive()
            fork.new.run("NOTIFY kmsconn, 'told'")
            assert await heard.receive() == {"told"}
            nursery.cancel_scope.cancel()


async def test_a_primary_that_lives_on_beside_a_promoted_one_is_left(
    met: set[Timeline], monkeypatch: pytest.MonkeyPatch, postgresql_programs: Path
) -> None:
    """A connector that has all its connections there finds the new one by its looks, and goes on there, or is started anew."""
    monkeypatch.setattr(postgres_side, "LOOK_AROUND", 0.2)
    with open_cluster(postgresql_programs, **UNSYNCED) as old, open_standby(old) as new:
        async with open_crowd(address_of(old, new)) as crowd:
            try:
                async with crowd.connector("one"):
                    crowd.ask("public")
                    await crowd.wait_answered(1)
                    new.run("SELECT pg_promote()")
                    await crowd.wait(lambda: old_primaries(crowd, "one"))
                    await trio.sleep(LEASE)
            except* (JournalWentBack, LeaseLost):
                pass
            left = old.run(TICK)
            async with crowd.connector("two"):
                crowd.ask("public")
                await crowd.wait_answered(2)
                [alert] = await crowd.wait(lambda: old_primaries(crowd, "two"))
                assert f"port {old.port} was left behind" in alert.text
            assert int(new.run(TICK)) > int(old.run(TICK)) == int(left)


def old_primaries(crowd: Crowd, name: str) -> list[AlertRaised]:
    """Return what a connector told of servers that were left behind."""
    return [one for one in crowd.of(name, AlertRaised) if one.cause == "old-primary"]
