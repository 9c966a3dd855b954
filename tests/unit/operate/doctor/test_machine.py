"""How the doctor looks at this machine: it touches nothing, and tells what a start would meet."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from kmsconn.chain.port import RpcError
from kmsconn.config.description import Mode
from kmsconn.config.working import HttpApi
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.journal.database import Binding, Database
from kmsconn.journal.sqlite import SqliteDriver, lock_path
from kmsconn.model.requests import FHEVM, HTTPZ_RC7
from kmsconn.operate.doctor import machine
from kmsconn.operate.doctor.cores import judge_refusal
from kmsconn.operate.doctor.machine import (
    LEAST_FREE,
    JournalFiles,
    certificate_probes,
    judge_certificate,
    judge_place,
    lock_holder,
    look_at_journal,
)
from kmsconn.operate.doctor.probing import CheckStatus
from kmsconn.protocols.port import Revert, Verdict
from kmsconn.transport.dialling import real_ports
from kmsconn.transport.ports import offload_inline
from tests import vectors
from tests.unit.operate.doctor.patient import Patient, patient
from tests.unit.transport.test_aws import write_pair

BINDING = Binding("fhevm", 1, 2, Address(bytes(20)), Address(bytes(20)))


def test_a_journal_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """Only its folder is looked at."""
    place = look_at_journal(tmp_path / "journal.db")
    assert (place.exists, place.refusal, place.holder) == (False, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A start would not make it."""
    place = look_at_journal(tmp_path / "nowhere" / "journal.db")
    assert place.refusal == f"its folder {tmp_path / 'nowhere'} cannot be used: No such file or directory"


def test_a_read_only_file_system_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its mount flags, since root may write anywhere else."""
    there = SimpleNamespace(f_flag=os.ST_RDONLY, f_bavail=1, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: there)
    place = look_at_journal(tmp_path / "journal.db")
    assert place.refusal == f"the file system of {tmp_path} is mounted read-only"


def test_folder_that_this_user_may_not_write_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of the system, not tried."""
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    assert look_at_journal(tmp_path / "journal.db").refusal == f"this user may not write in {tmp_path}"


def test_the_owner_of_a_journal_is_read_without_a_trace(tmp_path: Path) -> None:
    """SQLite makes no file beside it."""
    path = tmp_path / "journal.db"
    database = Database(SqliteDriver(path, 1, "OFF"), lambda: 0.0)
    with closing(database):
        database.open(BINDING)
    files = {one.name for one in tmp_path.iterdir()}
    place = look_at_journal(path)
    assert place.stored["profile"] == "fhevm"
    assert {one.name for one in tmp_path.iterdir()} == files


def test_who_holds_the_lock_is_told_and_keeps_it(tmp_path: Path) -> None:
    """The kernel's list is read: a lock that the doctor took, even for a moment, could refuse a connector that starts."""
    journal = tmp_path / "journal.db"
    with lock_path(journal).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert lock_holder(journal) == f"process {os.getpid()}"
    assert not lock_holder(journal)


def made_journal(path: Path) -> Path:
    with closing(Database(SqliteDriver(path, 1, "OFF"), lambda: 0.0)) as database:
        database.open(BINDING)
    return path


def text_of(path: Path) -> None:
    path.write_text("not a database, but some text")


def half_of(path: Path) -> None:
    os.truncate(made_journal(path), path.stat().st_size // 2)


def former(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.executescript(
            f"CREATE TABLE meta (key, value); PRAGMA application_id = {0x6B6D7363}; PRAGMA user_version = 14"
        )


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE theirs (x)")


@pytest.mark.parametrize(
    ("make", "found", "remedy"),
    [
        (text_of, "file is not a database", "name another journal path; "),
        (half_of, "database disk image is malformed", "put a backup in its place, or move it away"),
        (former, "was written by an earlier kmsconn", "move it away, "),
        (foreign, "is the database of another program", "name another journal path"),
    ],
)
def test_a_file_that_a_start_would_refuse_is_a_fault(
    tmp_path: Path, make: Callable[[Path], None], found: str, remedy: str
) -> None:
    path = tmp_path / "journal.db"
    make(path)
    line = judge_place("journal", look_at_journal(path))
    assert (line.status, look_at_journal(path).stored) == (CheckStatus.FAULT, {})
    assert found in line.found
    assert remedy in line.remedy


def test_a_journal_whose_newest_commits_stand_beside_it_is_not_judged(tmp_path: Path) -> None:
    """The file alone may lack pages then, which a start would find in the write-ahead log."""
    path = tmp_path / "journal.db"
    half_of(path)
    path.with_name("journal.db-wal").write_bytes(b"x")
    assert judge_place("journal", look_at_journal(path)).status is CheckStatus.OK


@pytest.mark.parametrize(
    ("place", "status"),
    [
        (JournalFiles(exists=False), CheckStatus.OK),
        (JournalFiles(exists=True, holder="process 7"), CheckStatus.OK),
        (JournalFiles(exists=True, free=LEAST_FREE - 1), CheckStatus.WARNING),
        (JournalFiles(exists=True, free=1 << 20), CheckStatus.FAULT),
        (JournalFiles(exists=True, refusal="is full"), CheckStatus.FAULT),
    ],
)
def test_a_place_is_judged(place: JournalFiles, status: CheckStatus) -> None:
    """In use by a connector is well."""
    assert judge_place("journal", place).status is status


@pytest.mark.parametrize(
    ("days", "status", "found"),
    [
        (90, CheckStatus.OK, "counts for 90 days"),
        (13, CheckStatus.WARNING, "ends on 1970-01-14"),
        (0, CheckStatus.FAULT, "ended on 1970-01-01"),
    ],
)
def test_the_end_of_a_certificate_is_judged(days: int, status: CheckStatus, found: str) -> None:
    line = judge_certificate(days * 86400.0, 0.0)
    assert line.status is status
    assert line.found.startswith(found)


async def test_the_certificate_of_the_http_address_is_read(tmp_path: Path) -> None:
    end = datetime(2027, 1, 31, tzinfo=UTC)
    files = write_pair(tmp_path, end)
    ports = attrs.evolve(real_ports(), offload=offload_inline, wall=lambda: end.timestamp() - 86400)
    http = HttpApi("127.0.0.1:1", frozenset(), tls=files)
    [probe] = certificate_probes(vectors.vector_settings().but(http_api=http), ports)
    [line] = await probe.run()
    assert (line.checked, line.status) == ("tls_config.cert_path", CheckStatus.WARNING)
    files.cert_path.write_text("")
    assert [one.status for one in await probe.run()] == [CheckStatus.FAULT]


def test_an_address_of_another_machine_is_told() -> None:
    """It is bound to a port of the kernel's choice, and nothing listens."""
    assert not machine.refusal_of_address("127.0.0.1")
    assert machine.refusal_of_address("192.0.2.1") == "is no address of this machine"


BOTH = pytest.mark.parametrize("profile", [FHEVM, HTTPZ_RC7])


async def statuses(one: Patient) -> dict[str, CheckStatus]:
    return {line.checked: line.status for line in await one.examine()}


@BOTH
async def test_before_the_first_start_only_what_a_connector_brings_about_is_skipped(profile: str) -> None:
    """The signer of the Core and a reply need an answer of the Core."""
    async with patient(profile) as one:
        assert await one.faults() == []
        left = {line.checked for line in await one.examine() if line.status is CheckStatus.SKIPPED}
    older = {"core[0] http://core0: key material"} if profile == HTTPZ_RC7 else set[str]()
    assert left == {"core[0] http://core0: signer", "a reply, called and not sent"} | older


@BOTH
async def test_beside_a_connector_every_line_is_well(profile: str, tmp_path: Path) -> None:
    """The newest request's key is compared with the Core's, its answer with the registered signer, its reply with the contract."""
    async with patient(profile) as one:
        await one.answer(["public"], tmp_path)
        found = await statuses(one)
    wanted = {"core[0] http://core0: signer", "a reply, called and not sent"}
    assert {found[checked] for checked in wanted} == {CheckStatus.OK}
    assert set(found.values()) - {CheckStatus.SKIPPED} == {CheckStatus.OK}


@pytest.mark.parametrize(
    ("error", "status"),
    [(RpcError(3, ""), CheckStatus.FAULT), (RpcError(-32000, "header not found", b""), CheckStatus.WARNING)],
)
def test_only_the_contract_s_no_is_a_fault_of_the_reply(error: RpcError, status: CheckStatus) -> None:
    assert judge_refusal("1", error, Revert("X", (), Verdict.FINAL)).status is status


@pytest.mark.parametrize("key", [{}, {"private_key": None}], ids=["with a key", "without"])
async def test_shadow_is_examined_without_a_key_and_needs_no_funds(one: Patient, key: dict[str, Any]) -> None:
    """Its account is named, and all but its balance is looked at as for the connector that sends."""
    sender = one.dependencies.sender.address
    one.changes = {"mode": Mode.SHADOW, "tx_sender_address": sender, **key}
    one.fund(0)
    assert await one.faults() == []
    found = {line.checked: line.found for line in await one.examine()}
    assert found["tx sender"] == f"{checksum(sender)}, of a shadow"
    assert not any("balance" in checked for checked in found)


async def test_asked_to_it_hands_one_public_request_over(one: Patient) -> None:
    """Then the signer is known before the first start, and the contract is asked for the reply."""
    one.ask_core = True
    lines = {line.checked: line for line in await one.examine()}
    assert lines["core[0] http://core0: signer"].status is CheckStatus.OK
    assert "the contract takes the reply" in lines["a reply, called and not sent"].found


async def test_unasked_it_starts_nothing_in_the_core(one: Patient) -> None:
    """Results are read, and no start call is made."""
    await one.examine()
    called = {method for method, _ in one.dependencies.cores[0].counts}
    assert called == {"GetKeyMaterialAvailability", "GetHealthStatus", "GetPublicDecryptionResult"}


async def test_what_only_its_user_may_see_is_not_handed_over() -> None:
    """A user's request stays with the connector, which checks the signature."""
    async with patient(requests=("direct",)) as one:
        one.ask_core = True
        lines = {line.checked: line for line in await one.examine()}
    assert lines["core[0] http://core0: signer"].status is CheckStatus.SKIPPED


async def test_no_transaction_is_sent(one: Patient, tmp_path: Path) -> None:
    """A reply is called only."""
    await one.answer(["public"], tmp_path)
    node = one.dependencies.clusters["gateway"].nodes[0]
    node.calls.clear()
    await one.examine()
    methods = set(node.calls)
    assert not {method for method in methods if method.startswith("eth_send")}


async def test_each_shard_of_the_core_is_examined() -> None:
    """An endpoint has its own health, key material and signer."""
    async with patient(shards=3) as one:
        found = await statuses(one)
    assert {f"core[{index}] http://core{index}: health" for index in range(3)} < found.keys()


async def test_a_quiet_network_is_healthy() -> None:
    """Without a request there is no ciphertext to fetch, and each bucket has to answer only."""
    async with patient(requests=()) as one:
        assert await one.faults() == []
        found = {line.checked: line.found for line in await one.examine()}
    [bucket] = [text for checked, text in found.items() if checked.startswith("bucket http://bucket0")]
    assert bucket == "answers (HTTP 404); no recent ciphertext of it to compare"
