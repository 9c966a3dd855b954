"""Making, opening and refusing the file; its tables agree with the model, and every index is one that a query names."""

from __future__ import annotations

import os
import re
import resource
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

from kmsconn.errors import StartRefused
from kmsconn.ethereum.addresses import Address
from kmsconn.journal import queries, recording, retention, schema
from kmsconn.journal.database import Binding, Database
from kmsconn.journal.schema import INDICES, VERSION, shard_index
from kmsconn.journal.sqlite import SqliteDriver, free_bytes
from kmsconn.model.life import CLOSED, State
from tests.unit.journal.samples import (
    BINDING,
    CONTRACT,
    WAYS,
    dump,
    new_row,
    opened,
    raw_connection,
    row_of,
    walk,
    wall,
)


def test_all_files_are_their_owners_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        db = opened(path)
        new_row(db)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        db.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(
        ["journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock"], 0o600
    )


def test_a_file_made_by_us_raises_no_warning(db: Database) -> None:
    assert db.driver.warnings == ()


@contextmanager
def full_disk() -> Iterator[None]:
    """Let this process write no byte to any file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("was_killed", [False, True])
def test_a_journal_on_a_full_disk_is_looked_into(path: Path, tmp_path: Path, was_killed: bool) -> None:
    db = opened(path)
    db.begin()
    new_row(db)
    db.commit()
    kept = dump(db)
    there = tmp_path / "left"
    if not was_killed:
        db.close()
    shutil.copytree(path.parent, there, ignore=shutil.ignore_patterns("*-shm", "left"))
    db.close()
    with full_disk(), closing(Database(SqliteDriver(there / path.name), wall)) as looking:
        looking.open(None)
        assert dump(looking) == kept


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_file_open_to_others_is_warned_about(path: Path, mode: int) -> None:
    opened(path).close()
    path.chmod(mode)
    db = opened(path)
    assert [warning for warning in db.driver.warnings if f"{mode:04o}" in warning and "chmod 600" in warning]
    db.close()


def test_the_free_bytes_are_those_of_the_file_system(path: Path) -> None:
    path.touch()
    assert free_bytes(path) == pytest.approx(shutil.disk_usage(path).free, abs=1 << 30)


def test_nobody_knows_the_free_bytes_of_a_journal_that_is_gone(path: Path) -> None:
    assert free_bytes(path) is None


def test_beginning_undoes_what_a_failure_left_open(db: Database) -> None:
    db.begin()
    rid = new_row(db)
    db.begin()
    assert db.execute("SELECT count(*) FROM request WHERE rid = ?", (rid,)).fetchone() == (0,)


OTHERS = {
    "profile": attrs.evolve(BINDING, profile="httpz-rc7"),
    "gateway chain id": attrs.evolve(BINDING, gateway_chain_id=2),
    "ethereum chain id": attrs.evolve(BINDING, ethereum_chain_id=11155111),
    "decryption contract": attrs.evolve(BINDING, decryption_contract=Address(b"\x01" * 20)),
    "tx sender": attrs.evolve(BINDING, sender=Address(b"\x02" * 20)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_journal_of_another_connector_is_refused_by_name(db: Database, path: Path, name: str) -> None:
    db.close()
    with pytest.raises(StartRefused, match=f"{name}.*name another journal path") as refusal:
        opened(path, OTHERS[name])
    assert sum(other in str(refusal.value) for other in OTHERS) == 1


def test_all_differences_are_named(db: Database, path: Path) -> None:
    db.close()
    with pytest.raises(StartRefused) as refusal:
        opened(path, Binding("httpz-rc7", 2, 3, Address(b"\x01" * 20), Address(b"\x02" * 20)))
    assert all(name in str(refusal.value) for name in OTHERS)


def test_a_refused_opening_holds_nothing(db: Database, path: Path) -> None:
    db.close()
    refused = Database(SqliteDriver(path, 1, "OFF"), wall)
    with pytest.raises(StartRefused):
        refused.open(OTHERS["profile"])
    refused.close()
    opened(path).close()


def test_a_newer_layout_is_refused(db: Database, path: Path) -> None:
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(StartRefused, match="newer version"):
        opened(path)


def test_a_database_of_something_else_is_refused_untouched(path: Path) -> None:
    other = raw_connection(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(StartRefused, match="another program"):
        opened(path)
    other = raw_connection(path)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    other.close()


def test_the_journal_of_an_earlier_kmsconn_is_called_so(path: Path) -> None:
    earlier = raw_connection(path)
    for statement in (
        "CREATE TABLE request (x)",
        "PRAGMA application_id = 1802335075",
        "PRAGMA user_version = 14",
    ):
        earlier.execute(statement)
    earlier.close()
    with pytest.raises(StartRefused) as caught:
        opened(path)
    said = str(caught.value)
    assert "an earlier kmsconn" in said
    assert "layout is 14" in said
    assert "another program" not in said
    assert "move it away" in said
    assert "decryption_from_block_number" in said


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.99])
def test_a_truncated_journal_is_refused_with_what_helps(path: Path, share: float) -> None:
    opened(path).close()
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(StartRefused) as caught:
        opened(path)
    said = str(caught.value)
    assert "malformed" in said
    assert "put a backup in its place" in said
    assert "move it away" in said
    assert "decryption_from_block_number" in said


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"no database at all " * 100)
    with pytest.raises(
        StartRefused, match=r"cannot be opened: file is not a database; name another journal path"
    ):
        opened(path)


def test_a_journal_that_another_program_holds_is_refused_by_that(path: Path) -> None:
    opened(path).close()
    other = raw_connection(path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StartRefused, match=r"cannot be opened: database is locked; close the program"):
        opened(path)
    other.close()


def test_a_folder_in_the_place_of_a_journal_is_refused_by_that(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StartRefused, match=r"cannot be opened: Is a directory; name a file in journal"):
        opened(path)


def test_a_journal_on_a_full_disk_is_refused_with_what_helps(path: Path) -> None:
    with full_disk(), pytest.raises(StartRefused, match=r"cannot be opened: disk I/O error; check its disk"):
        opened(path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        StartRefused,
        match=r"nowhere/journal\.db cannot be opened: No such file or directory; make its folder",
    ):
        opened(tmp_path / "nowhere" / "journal.db")


def test_a_migration_that_was_cut_short_is_done_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (("PRAGMA application_id = 1802335075", "CREATE TABLE meta (x)", "this is no SQL"),)
    with monkeypatch.context() as patch:
        patch.setattr("kmsconn.journal.sqlite.MIGRATIONS", broken)
        with pytest.raises(StartRefused, match="syntax error"):
            opened(path)
    db = opened(path)
    assert row_of(db, new_row(db)).id == 1
    db.close()


def test_a_statement_that_fails_is_sqlite_s_error(db: Database) -> None:
    """The writer, which knows what was asked, maps it."""
    with pytest.raises(sqlite3.Error):
        db.execute("SELECT * FROM nothing")


def test_a_savepoint_undoes_what_its_body_changed(db: Database) -> None:
    db.begin()
    new_row(db, 1)
    with suppress(LookupError), db.savepoint():
        new_row(db, 2)
        raise LookupError
    db.commit()
    assert (row_of(db, 1).id, len(dump(db))) == (1, 1)


def test_a_savepoint_that_cannot_be_undone_takes_the_whole_transaction_with_it(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = db.execute

    def broken(statement: str, values: Any = ()) -> Any:
        if statement.startswith("ROLLBACK TO"):
            raise sqlite3.OperationalError("disk I/O error")
        return execute(statement, values)

    db.begin()
    new_row(db, 1)
    monkeypatch.setattr(db, "execute", broken)
    with suppress(LookupError), db.savepoint():
        raise LookupError
    assert (db.driver.is_begun, len(dump(db))) == (False, 0)


def test_an_error_that_lost_the_whole_transaction_comes_out_of_a_savepoint_itself(db: Database) -> None:
    def lose_all() -> None:
        with db.savepoint():
            db.roll_back()
            raise sqlite3.OperationalError("disk I/O error")

    db.begin()
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        lose_all()
    assert not db.driver.is_begun


LOOK = {"kind": "", "shard": 0, "busy": "[]", "now": 0, "limit": 1}


def test_a_new_file_has_the_newest_version(db: Database) -> None:
    assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_the_log_is_written_ahead(db: Database) -> None:
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("state", sorted(CLOSED))
def test_a_closed_row_stands_in_no_index_of_work(db: Database, state: str) -> None:
    """Only identity, place, its block and its end hold it, so that years of closed rows cost nobody anything."""
    walk(db, new_row(db), WAYS[next(closed for closed in CLOSED if closed == state)])
    statements = [*INDICES, shard_index(1)[1]]
    for index in ("due_1", "to_sign", "nonce", "oldest", "off"):
        where = next(one for one in statements if f"INDEX request_{index} ON" in one).split("WHERE")[1]
        assert db.execute(f"SELECT count(*) FROM request WHERE {where}").fetchone() == (0,)  # noqa: S608


@pytest.mark.parametrize("state", sorted(State))
def test_a_row_has_an_end_in_the_closed_states_alone(db: Database, state: State) -> None:
    """By that the indices tell open rows from closed ones."""
    rid = walk(db, new_row(db), WAYS[state])
    has_ended = "SELECT closed_at IS NOT NULL FROM request WHERE rid = ?"
    assert bool(db.execute(has_ended, (rid,)).fetchone()[0]) == (state in CLOSED)


def test_each_index_is_named_beside_a_query_that_is_there() -> None:
    source = Path(schema.__file__).read_text(encoding="utf-8")
    named = re.findall(r"(queries|recording|retention)\.(_\w+)", source)
    modules = {"queries": queries, "recording": recording, "retention": retention}
    assert named
    assert all(hasattr(modules[module], name) for module, name in named)


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (queries._DUE.format(shards=1), LOOK),
        (queries._NEXT_SEEN.format(shards=1), LOOK),
        *((one, {"chain_id": 1, "now": 0, "limit": 1}) for one in (queries._UNSENT, queries._NEXT_UNSENT)),
        (queries._SIGNED, (1,)),
        (queries._INCLUDED, (1, 1, 1)),
        *((one, ("",)) for one in (queries._OLDEST_OPEN_ROW, queries._OLDEST_ANSWERABLE)),
        (queries._WAITING, ("", 0, 1)),
        (queries._SIBLING, (1,)),
        (queries._ENDINGS, ("", 1)),
        (recording._IN_RANGE, (1, CONTRACT, 1, 2)),
    ],
)
def test_no_query_walks_over_the_table(db: Database, statement: str, values: object) -> None:
    plan = db.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    walks = [
        step
        for *_, step in plan
        if step.startswith("SCAN") and "INDEX" not in step and "json_each" not in step
    ]
    assert walks == []


def test_temporary_tables_are_kept_in_memory(db: Database) -> None:
    """The root file system of a container is read-only, so there is no folder for them."""
    assert db.execute("PRAGMA temp_store").fetchone() == (2,)
