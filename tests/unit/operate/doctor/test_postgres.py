"""What the doctor says of a journal in PostgreSQL, by what its server says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from kmsconn.config.description import PostgresAddress
from kmsconn.config.working import Pools
from kmsconn.journal.members import MemberRow
from kmsconn.operate.doctor.postgres import (
    PostgresPlace,
    ServerState,
    TablesState,
    judge_common,
    judge_postgres,
    judge_workers,
)
from kmsconn.operate.doctor.probing import CheckStatus, Diagnosis
from tests.unit.operate.doctor.patient import Patient

SERVER = ServerState("15.4", 150_004, "UTF8", encrypted=True)
TABLES = TablesState("public")
WELL = PostgresPlace(server=SERVER, tables=TABLES)
REMOTE = PostgresAddress("k", ("db",))


def lines(place: PostgresPlace, address: PostgresAddress = REMOTE, pool: int = 4) -> list[Diagnosis]:
    return list(judge_postgres("journal", address, place, pool))


def only_finding(place: PostgresPlace, address: PostgresAddress = REMOTE) -> Diagnosis:
    """Return the one line that is not well."""
    (found,) = (line for line in lines(place, address) if line.status is not CheckStatus.OK)
    return found


def test_a_server_without_faults_has_a_line_for_each_thing() -> None:
    assert [f"{line.status} {line.checked}: {line.found}" for line in lines(WELL)] == [
        "ok journal: PostgreSQL 15.4, takes writes",
        "ok journal: tables: not there yet, can be made in the schema public",
        "ok journal: commits: synchronous_commit is on, no standby has to confirm",
        "ok journal: clock: 0.0 s behind this machine's",
        "ok journal: connections: 100 are left, a process needs up to 8",
        "ok journal: TLS: the connection is encrypted",
    ]


def test_a_server_that_cannot_be_reached_is_the_only_line() -> None:
    (line,) = lines(PostgresPlace(refusal="connection refused"))
    assert (line.status, line.found) == (CheckStatus.FAULT, "connection refused")


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"number": 120_000, "version": "12.1"}, CheckStatus.FAULT, "12 is too old"),
        ({"standby": True}, CheckStatus.FAULT, "is a standby"),
        ({"read_only": True}, CheckStatus.FAULT, "transactions are read-only"),
        ({"encoding": "LATIN1"}, CheckStatus.FAULT, "stores text as LATIN1"),
        ({"fsync": False}, CheckStatus.WARNING, "fsync is off"),
        ({"synchronous_commit": "off"}, CheckStatus.WARNING, "synchronous_commit is off"),
        ({"encrypted": False}, CheckStatus.WARNING, "not encrypted"),
        ({"autovacuum": False}, CheckStatus.WARNING, "it is off"),
        ({"free_connections": 7}, CheckStatus.WARNING, "7 are left, a process needs up to 8"),
    ],
)
def test_a_state_of_the_server_is_named(changes: dict[str, Any], status: CheckStatus, words: str) -> None:
    found = only_finding(attrs.evolve(WELL, server=attrs.evolve(SERVER, **changes)))
    assert found.status is status
    assert words in found.found
    assert found.remedy


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        (TablesState(None, path='"$user", public'), "no schema on the search path"),
        (TablesState(None, creatable=False, path="mine"), "no schema mine, and this user may not make one"),
        (TablesState("public", foreign=True), "tables of another program"),
        (TablesState("public", foreign=True, former=True), "tables of an earlier kmsconn"),
        (TablesState("public", usable=False), "may not make tables in the schema public"),
        (TablesState("public", creatable=False), "may not make tables in the schema public"),
        (TablesState("public", owned=False, stored={"kmsconn_tables": "1 1"}), "belong to another user"),
    ],
)
def test_tables_that_cannot_be_used_are_a_fault(tables: TablesState, words: str) -> None:
    found = only_finding(attrs.evolve(WELL, tables=tables))
    assert found.status is CheckStatus.FAULT
    assert words in found.found
    assert found.remedy


def test_a_schema_that_can_be_made_is_well() -> None:
    (tables,) = (
        line
        for line in lines(attrs.evolve(WELL, tables=TablesState(None, path="mine")))
        if "tables" in line.checked
    )
    assert (tables.status, tables.found) == (
        CheckStatus.OK,
        "not there yet, nor the schema mine; both can be made",
    )


def test_tables_that_are_there_need_no_right_to_make_some() -> None:
    tables = TablesState("public", creatable=False, stored={"kmsconn_tables": "1 1"})
    assert (
        lines(attrs.evolve(WELL, tables=tables))[1].found
        == "version 1 in the schema public, used by no process"
    )


def member(name: str, *roles: str, settings: Mapping[str, str] | None = None) -> MemberRow:
    return MemberRow(1, name, frozenset(roles), 0.0, 0.0, settings or {})


def test_the_members_are_named() -> None:
    place = attrs.evolve(
        WELL, tables=TablesState("k", stored={"kmsconn_tables": "2 1"}), members=(member("a"), member("b"))
    )
    assert lines(place)[1].found == "version 2 in the schema k, used by a (member 1), b (member 1)"


def test_settings_are_compared_with_those_of_the_processes_that_run() -> None:
    ours = {"lease": "5s", "mode": "active"}
    assert [*judge_common("journal", ours, ())] == []
    (line,) = judge_common("journal", ours, [member("a", settings=dict(ours)), member("b")])
    assert (line.status, line.found) == (CheckStatus.OK, "alike with 2: lease, mode")
    (line,) = judge_common("journal", ours, [member("a", settings=ours | {"lease": "9s"})])
    assert (line.status, line.checked) == (CheckStatus.WARNING, "journal: lease of all processes")
    assert line.found == "5s at this configuration; 9s at a (member 1)"


def workers(number: int, pools: Pools, cores: int = 1) -> list[Diagnosis]:
    members = [member(f"{one}", "work", "hear") for one in range(number)]
    return [*judge_workers("workers", pools, cores, [*members, member("sends", "send")])]


def test_the_workers_of_all_processes_are_added_up() -> None:
    (line,) = workers(3, Pools())
    assert line.status is CheckStatus.OK
    assert line.found == "3 x 256 = 768 decryptions of a kind at once at most, room for 4000 in 1 Core"
    assert workers(0, Pools()) == []


def test_more_workers_than_a_core_has_room_for_are_a_warning() -> None:
    many = Pools(user_decryption=1000, http_user_decryption=1100)
    assert [line.status for line in workers(1, many)] == [CheckStatus.OK]
    assert [line.status for line in workers(2, many)] == [CheckStatus.WARNING]
    assert [line.status for line in workers(2, many, cores=2)] == [CheckStatus.OK]


async def test_the_doctor_tells_settings_of_processes_that_differ(one: Patient) -> None:
    one.changes["journal"] = REMOTE
    members = (member("a", settings={"lease": "9s"}),)
    one.postgres = attrs.evolve(WELL, members=members)
    found = [line.found for line in await one.examine() if "of all processes" in line.checked]
    assert found == ["5s at this configuration; 9s at a (member 1)"]


@pytest.mark.parametrize(("ahead", "words"), [(2.5, "2.5 s ahead of"), (-2.5, "2.5 s behind")])
def test_a_clock_that_differs_is_a_warning(ahead: float, words: str) -> None:
    found = only_finding(attrs.evolve(WELL, clock=ahead))
    assert found.status is CheckStatus.WARNING
    assert words in found.found


@pytest.mark.parametrize(
    "address",
    [
        PostgresAddress("k", ("/run/pg",)),
        PostgresAddress("k", ("127.0.0.1",)),
        PostgresAddress("k", ("::1", "localhost")),
    ],
)
def test_nothing_need_be_encrypted_on_this_machine(address: PostgresAddress) -> None:
    place = attrs.evolve(WELL, server=attrs.evolve(SERVER, encrypted=False))
    assert all(line.status is CheckStatus.OK for line in lines(place, address))


async def test_a_journal_in_postgresql_of_another_connector(one: Patient) -> None:
    """Whose it is, and what was configured."""
    one.changes["journal"] = REMOTE
    one.postgres = attrs.evolve(
        WELL, tables=TablesState("public", stored={"kmsconn_tables": "1 1", "gateway chain id": "1"})
    )
    line = await one.only_fault()
    assert line.checked == "journal postgresql://db/k: owner"
    assert "gateway chain id 1 there, 54321 configured" in line.found
