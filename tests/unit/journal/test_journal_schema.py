"""The tables agree with the model, and every index is one that a query names."""

from __future__ import annotations

import re

import pytest

from kmsconn.journal import damage, queries, recording
from kmsconn.journal.database import Database
from kmsconn.journal.schema import INDICES, VERSION, shard_indices
from kmsconn.model.life import CLOSED, OPEN, State
from tests.unit.journal.samples import (
    CONTRACT,
    WAYS,
    new_row,
    walk,
)

LOOK = {"kind": "", "shard": 0, "busy": "[]", "now": 0, "limit": 1}


def literal_states(statement: str) -> set[str]:
    found = re.search(r"state IN\s*\(([^)]*)\)", statement)
    assert found, statement
    return {name.strip(" '") for name in found[1].split(",")}


def statement_of(name: str) -> str:
    """Return the statement that makes an index."""
    return next(statement for statement in INDICES if name in statement)


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
    statements = [*INDICES, *shard_indices(1).values()]
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
        where = next(one for one in statements if f"INDEX request_{index} ON" in one).split("WHERE")[1]
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


def test_temporary_tables_are_kept_in_memory(db: Database) -> None:
    """The root file system of a container is read-only, so there is no folder for them."""
    assert db.execute("PRAGMA temp_store").fetchone() == (2,)
