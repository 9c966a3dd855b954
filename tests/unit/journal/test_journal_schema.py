"""The tables agree with the model, and every index is one that a query names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmsconn.journal import damage, queries, recording
from kmsconn.journal.database import Database
from kmsconn.journal.rows import RESIDUES, pack_nothing
from kmsconn.journal.schema import MIGRATIONS, VERSION, shard_indices
from kmsconn.model.life import CLOSED, OPEN, RowCause, State
from kmsconn.rpc.checkpoints import Checkpoint
from tests.unit.journal.samples import (
    BINDING,
    CHAIN,
    CONTRACT,
    KIND,
    WAYS,
    bytes32,
    new_row,
    opened,
    raw_connection,
    row_of,
    walk,
)

LOOK = {"kind": "", "shard": 0, "busy": "[]", "now": 0, "limit": 1}


def file_of_layout(path: Path, layout: int, *rows: dict[str, object]) -> None:
    """Make a journal as an older version left it, with rows of its own columns."""
    connection = raw_connection(path)
    connection.create_function(
        "shard", 2, lambda key, shards: int.from_bytes(key) % shards, deterministic=True
    )
    for migration in MIGRATIONS[:layout]:
        for statement in migration:
            connection.execute(statement)
    for row in rows:
        values = OLD_ROW | row
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO request ({names}) VALUES ({marks})", [*values.values()])  # noqa: S608
    connection.execute(f"PRAGMA user_version = {layout}")
    connection.close()


OLD_ROW: dict[str, object] = {
    "chain_id": CHAIN, "contract": CONTRACT, "id": (1).to_bytes(32), "digest": bytes32("digest"), "kind": KIND, "state": "seen",
    "on_chain": 1, "tick": 1, "block": 10, "log_index": 0, "block_hash": bytes32("block 10"), "transaction_hash": bytes32("tx"),
    "next_try": 0.0, "max_wait": 60.0, "deadline": 0.0, "admitted_at": 0.0, "log": b"log",
}  # fmt: skip
"""A row in the columns of the layouts 1 to 7."""


def literal_states(statement: str) -> set[str]:
    found = re.search(r"state IN\s*\(([^)]*)\)", statement)
    assert found, statement
    return {name.strip(" '") for name in found[1].split(",")}


def statement_of(name: str) -> str:
    """Return the newest statement that makes something."""
    statements = (statement for migration in reversed(MIGRATIONS) for statement in migration)
    return next(statement for statement in statements if name in statement and "DROP" not in statement)


@pytest.mark.parametrize("index", ["request_whole", "request_cleared"])
def test_the_indices_of_retention_name_the_closed_states(index: str) -> None:
    assert literal_states(statement_of(index)) == {state.value for state in CLOSED}


def test_the_index_of_open_rows_names_the_open_states() -> None:
    assert literal_states(statement_of("request_oldest")) == {state.value for state in OPEN}


def test_the_index_of_odd_rows_names_all_states() -> None:
    assert literal_states(statement_of("INDEX request_odd ").replace("NOT IN", "IN")) == {
        state.value for state in State
    }


def test_a_new_file_has_the_newest_version(db: Database) -> None:
    assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_the_log_is_written_ahead(db: Database) -> None:
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("state", sorted(CLOSED))
def test_a_closed_row_stands_in_no_index_of_work(db: Database, state: str) -> None:
    """Only identity and place hold it, so that years of closed rows cost nobody anything."""
    walk(db, new_row(db), WAYS[next(closed for closed in CLOSED if closed == state)])
    statements = [*(one for migration in MIGRATIONS for one in migration), *shard_indices(1).values()]
    for index in (
        "due_1",
        "stranded_1",
        "unsent",
        "to_sign",
        "to_sign_stranded",
        "nonce",
        "included",
        "oldest",
        "suspect",
        "odd",
    ):
        where = next(one for one in reversed(statements) if f"INDEX request_{index} ON" in one).split(
            "WHERE"
        )[1]
        assert db.execute(f"SELECT count(*) FROM request WHERE {where}").fetchone() == (0,)  # noqa: S608


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (queries._for_shards(queries._DUE, 1), LOOK),
        (queries._for_shards(queries._STRANDED, 1), LOOK),
        (queries._for_shards(queries._NEXT_SEEN, 1), LOOK),
        *(
            (one, {"chain_id": 1, "now": 0, "limit": 1, "damaged": "[]"})
            for one in (queries._UNSENT, queries._UNSENT_STRANDED, queries._NEXT_UNSENT)
        ),
        (queries._SIGNED, (1,)),
        (queries._INCLUDED, (1, 1, 1, 1)),
        (queries._INCLUDED_FROM, (1, 1, 1)),
        (queries._OLDEST, ("",)),
        (queries._WAITING, ("", 0, 1)),
        (queries._SIBLING, (1,)),
        (queries._ENDINGS, ("", 1)),
        (recording._IN_RANGE, (1, CONTRACT, 1, 2)),
        (queries._SUSPECT, (1, CONTRACT, 1, 1)),
        (damage._ODD_STATES, ()),
        (damage._ODD_KINDS, ("",)),
    ],
)
def test_no_query_walks_over_the_table(db: Database, statement: str, values: object) -> None:
    plan = db.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()  # type: ignore[arg-type]
    walks = [
        step
        for *_, step in plan
        if step.startswith("SCAN") and "INDEX" not in step and "json_each" not in step
    ]
    assert walks == []


def test_the_rows_of_an_older_file_have_their_shards(tmp_path: Path) -> None:
    identifier = (5 << 248) + 77
    file_of_layout(tmp_path / "j.db", 2, {"id": identifier.to_bytes(32)})
    db = opened(tmp_path / "j.db")
    try:
        assert db.execute("SELECT residue FROM request").fetchall() == [(identifier % RESIDUES,)]
    finally:
        db.close()


@pytest.mark.slow
@pytest.mark.parametrize("layout", range(1, 8))
@pytest.mark.parametrize(
    ("old", "state"),
    [
        ("seen", State.PENDING),
        ("landed", State.INCLUDED),
        ("replied", State.FINALIZED),
        ("signed", State.SIGNED),
    ],
)
def test_an_older_file_has_its_rows_in_the_states_of_today(
    tmp_path: Path, layout: int, old: str, state: State
) -> None:
    others = ({"id": bytes32(f"{n}"), "state": old, "parked": 2, "nonce": n} for n in range(2))
    file_of_layout(tmp_path / "j.db", layout, *others, {"state": "expired"})
    db = opened(tmp_path / "j.db")
    try:
        assert queries.counts(db, 0.0).states == {(KIND, state): 2, (KIND, State.EXPIRED): 1}
        assert db.execute("SELECT deferred, nonce FROM request ORDER BY rid").fetchall()[:2] == [
            (2, 0),
            (2, 1),
        ]
        due = "SELECT count(*) FROM request INDEXED BY request_due_1 WHERE kind = ? AND state = 'pending' AND on_chain = 1"
        assert db.execute(due, (KIND,)).fetchone() == (2 * (state is State.PENDING),)
    finally:
        db.close()


def test_what_retention_deleted_stays_counted(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    file_of_layout(path, 6, {"state": "replied"})
    connection = raw_connection(path)
    connection.execute("DELETE FROM request")
    connection.close()
    db = opened(path)
    try:
        assert queries.counts(db, 0.0).deleted == {(KIND, State.FINALIZED): 1}
    finally:
        db.close()


def test_the_migration_names_the_number_of_residues() -> None:
    assert any(f"shard(id, {RESIDUES})" in statement for statement in MIGRATIONS[2])


def test_an_empty_file_of_the_first_version_gets_the_new_ends(tmp_path: Path) -> None:
    file_of_layout(tmp_path / "j.db", 1)
    db = opened(tmp_path / "j.db")
    try:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
        walk(db, new_row(db), WAYS[State.DONE])
        assert queries.counts(db, 0.0).states == {(KIND, State.DONE): 1}
    finally:
        db.close()


def test_an_older_file_begins_with_the_blocks_where_its_requests_stand(tmp_path: Path) -> None:
    at: Iterator[dict[str, object]] = (
        {"id": bytes32(f"{n}"), "block": n, "block_hash": bytes32(f"block {n}")} for n in (10, 12)
    )
    file_of_layout(tmp_path / "j.db", 4, *at)
    db = opened(tmp_path / "j.db")
    try:
        kept = [Checkpoint(block, bytes32(f"block {block}")) for block in (10, 12)]
        assert queries.checkpoints(db, CHAIN, CONTRACT) == tuple(kept)
    finally:
        db.close()


def test_temporary_tables_are_kept_in_memory(db: Database) -> None:
    """The root file system of a container is read-only, so there is no folder for them."""
    assert db.execute("PRAGMA temp_store").fetchone() == (2,)


def test_a_journal_of_fhevm_0_14_belongs_to_the_profile_of_all_releases(tmp_path: Path) -> None:
    file_of_layout(tmp_path / "j.db", 11)
    connection = raw_connection(tmp_path / "j.db")
    stored = {**BINDING.as_text(), "profile": "fhevm-0.14"}
    connection.executemany("INSERT INTO meta VALUES (?, ?)", stored.items())
    connection.close()
    opened(tmp_path / "j.db").close()  # raises where the journal belongs to somebody else


BOTH = "second chance: ALREADY_EXISTS, and no result yet: no"


@pytest.mark.parametrize("layout", [1, 7])
@pytest.mark.parametrize(
    ("state", "reason", "cause"),
    [
        ("landed", "its block is not known since the chain was reorganised", RowCause.BLOCK_UNKNOWN),
        ("seen", "second chance: INTERNAL", RowCause.SECOND_CHANCE),
        ("seen", "a second chance: not", RowCause.NONE),
        ("seen", "ALREADY_EXISTS, and no result yet: no", RowCause.TAKEN_ID),
        ("seen", BOTH, RowCause.SECOND_CHANCE | RowCause.TAKEN_ID),
        ("rejected", "context 0x07 was destroyed", RowCause.DESTROYED),
        ("seen", "context 0x07 was destroyed, a node says", RowCause.NONE),
        ("rejected", "skipped by an operator: no", RowCause.SKIPPED),
        ("rejected", "malformed", RowCause.NONE),
    ],
)
def test_the_rows_of_an_older_file_have_their_causes_from_their_reasons(
    tmp_path: Path, layout: int, state: str, reason: str, cause: RowCause
) -> None:
    file_of_layout(
        tmp_path / "j.db", layout, {"state": state, "reason": reason, "log": pack_nothing(CONTRACT)}
    )
    db = opened(tmp_path / "j.db")
    try:
        assert row_of(db, 1).progress.cause is cause
    finally:
        db.close()
