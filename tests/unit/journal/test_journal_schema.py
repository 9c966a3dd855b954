"""The tables agree with the model, and every index is one that a query names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kmsconn.chain.checkpoints import Checkpoint
from kmsconn.journal import admission, damage, queries
from kmsconn.journal.book import Book
from kmsconn.journal.rows import RESIDUES
from kmsconn.journal.schema import MIGRATIONS, VERSION, shard_indices
from kmsconn.model.life import CLOSED, OPEN, State
from tests.unit.journal.samples import (
    CHAIN,
    CONTRACT,
    KIND,
    WAYS,
    bytes32,
    new_row,
    opened,
    raw_connection,
    walk,
)

LOOK = {"kind": "", "shard": 0, "busy": "[]", "now": 0, "limit": 1}


AS_OF_VERSION_4 = (
    *(f"DROP TABLE {table}" for table in ("checkpoint", "reread")),
    "DROP INDEX request_final",
    "DROP INDEX request_gone",
    "DROP INDEX request_key_management",
)
AS_OF_VERSION_3 = (
    *AS_OF_VERSION_4,
    *(f"DROP TRIGGER request_{name}" for name in ("appears", "moves", "goes")),
    *(f"DROP INDEX request_{name}" for name in ("oldest", "whole", "cleared", "odd", "due_1", "stranded_1")),
    "DROP TABLE tally",
    "DROP TABLE low_water",
    "ALTER TABLE request DROP COLUMN closed_at",
    "ALTER TABLE request DROP COLUMN cleared",
    *(
        one
        for one in MIGRATIONS[0]
        if "TABLE closed" in one or "request_open" in one or "request_stranded" in one
    ),
    *(one for one in MIGRATIONS[1] if "CREATE" in one),
    *(one for one in MIGRATIONS[2] if "CREATE" in one),
)
"""Takes an empty journal of today back to the layout 3."""


def literal_states(statement: str) -> set[str]:
    found = re.search(r"state IN \(([^)]*)\)", statement)
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
    assert literal_states(statement_of("request_odd").replace("NOT IN", "IN")) == {
        state.value for state in State
    }


def test_a_new_file_has_the_newest_version(book: Book) -> None:
    assert book.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_the_log_is_written_ahead(book: Book) -> None:
    assert book.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("state", sorted(CLOSED))
def test_a_closed_row_stands_in_no_index_of_work(book: Book, state: str) -> None:
    """Only identity and place hold it, so that years of closed rows cost nobody anything."""
    walk(book, new_row(book), WAYS[next(closed for closed in CLOSED if closed == state)])
    statements = [*(one for migration in MIGRATIONS for one in migration), *shard_indices(1).values()]
    for index in ("due_1", "stranded_1", "unsent", "nonce", "landed", "oldest", "doubted", "odd"):
        where = next(one for one in statements if f"INDEX request_{index} " in one).split("WHERE")[1]
        assert book.execute(f"SELECT count(*) FROM request WHERE {where}").fetchone() == (0,)  # noqa: S608


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (queries._for_shards(queries._DUE, 1), LOOK),
        (queries._for_shards(queries._STRANDED, 1), LOOK),
        (queries._for_shards(queries._NEXT_SEEN, 1), LOOK),
        (queries._UNSENT, {"chain_id": 1, "now": 0, "limit": 1}),
        (queries._NEXT_UNSENT, {"chain_id": 1, "now": 0}),
        (queries._SIGNED, (1,)),
        (queries._LANDED, (1, 1, 1, 1)),
        (queries._LANDED_FROM, (1, 1, 1)),
        (queries._OLDEST, ("",)),
        (queries._WAITING, ("", 0, 1)),
        (queries._SIBLING, (1,)),
        (queries._ENDINGS, ("", 1)),
        (admission._IN_RANGE, (1, CONTRACT, 1, 2)),
        (queries._DOUBTED, (1, CONTRACT, 1, 1)),
        (damage._ODD_STATES, ()),
        (damage._ODD_KINDS, ("",)),
    ],
)
def test_no_query_walks_over_the_table(book: Book, statement: str, values: object) -> None:
    plan = book.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()  # type: ignore[arg-type]
    walks = [
        step
        for *_, step in plan
        if step.startswith("SCAN") and "INDEX" not in step and "json_each" not in step
    ]
    assert walks == []


def test_the_rows_of_an_older_file_have_their_shards(tmp_path: Path) -> None:
    identifier = (5 << 248) + 77
    old = opened(tmp_path / "j.db")
    new_row(old, identifier)
    for statement in (
        *AS_OF_VERSION_3,
        "DROP INDEX request_due",
        "ALTER TABLE request DROP COLUMN residue",
        *(one for one in MIGRATIONS[0] if "INDEX request_due" in one),
        "PRAGMA user_version = 2",
    ):
        old.execute(statement)
    old.close()
    book = opened(tmp_path / "j.db")
    try:
        assert book.execute("SELECT residue FROM request").fetchall() == [(identifier % RESIDUES,)]
    finally:
        book.close()


def test_the_migration_names_the_number_of_residues() -> None:
    assert any(f"shard(id, {RESIDUES})" in statement for statement in MIGRATIONS[2])


def test_a_file_of_the_first_version_keeps_its_rows_and_gets_the_new_ends(tmp_path: Path) -> None:
    old = raw_connection(tmp_path / "j.db")
    for statement in (*MIGRATIONS[0], "PRAGMA user_version = 1"):
        old.execute(statement)
    old.close()
    book = opened(tmp_path / "j.db")
    try:
        assert book.execute("PRAGMA user_version").fetchone() == (VERSION,)
        walk(book, new_row(book), WAYS[State.DONE])
        assert queries.counts(book, 0.0).states == {(KIND, State.DONE): 1}
    finally:
        book.close()


def test_an_older_file_begins_with_the_blocks_where_its_requests_stand(tmp_path: Path) -> None:
    old = opened(tmp_path / "j.db")
    new_row(old, 1, 10)
    new_row(old, 2, 12)
    for statement in (*AS_OF_VERSION_4, "PRAGMA user_version = 4"):
        old.execute(statement)
    old.close()
    book = opened(tmp_path / "j.db")
    try:
        kept = [Checkpoint(block, bytes32(f"block {block}")) for block in (10, 12)]
        assert queries.checkpoints(book, CHAIN, CONTRACT) == tuple(kept)
    finally:
        book.close()
