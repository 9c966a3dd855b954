"""How the doctor looks at this machine: it touches nothing, and tells what a start would meet."""

from __future__ import annotations

import fcntl
import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest

from kmsconn.config.working import HttpApi
from kmsconn.ethereum.addresses import Address
from kmsconn.journal.database import Binding, Database
from kmsconn.journal.sqlite import SqliteDriver, lock_path
from kmsconn.operate.doctor import machine
from kmsconn.operate.doctor.diagnosis import CheckStatus
from kmsconn.operate.doctor.machine import (
    LEAST_FREE,
    JournalFiles,
    certificate_probes,
    judge_certificate,
    judge_place,
    lock_holder,
    look_at_journal,
)
from kmsconn.transport.dialling import real_ports
from kmsconn.transport.ports import offload_inline
from tests import vectors
from tests.unit.transport.test_certificates import write_pair

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


def test_a_folder_that_this_user_may_not_write_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_file_that_is_no_journal_has_no_owner(tmp_path: Path) -> None:
    """The start would say so; the doctor does not fail on it."""
    path = tmp_path / "journal.db"
    path.write_text("not a database, but some text")
    assert look_at_journal(path).stored == {}


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
