"""The tables agree with the model, and every index is one that a query names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kmsconn.journal import queries, recording, rewinding, schema
from kmsconn.journal.database import Database
from kmsconn.journal.schema import INDICES, VERSION, shard_index
from kmsconn.model.life import CLOSED, State
from tests.unit.journal.samples import (
    CONTRACT,
    WAYS,
    new_row,
    walk,
)

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
    named = re.findall(r"(queries|recording|rewinding)\.(_\w+)", source)
    modules = {"queries": queries, "recording": recording, "rewinding": rewinding}
    assert named
    assert all(hasattr(modules[module], name) for module, name in named)


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (queries._for_shards(queries._DUE, 1), LOOK),
        (queries._for_shards(queries._NEXT_SEEN, 1), LOOK),
        *((one, {"chain_id": 1, "now": 0, "limit": 1}) for one in (queries._UNSENT, queries._NEXT_UNSENT)),
        (queries._SIGNED, (1,)),
        (queries._INCLUDED, (1, 1, 1, 1)),
        (queries._OLDEST, ("",)),
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
