"""Copies a whole journal into an empty one, of either database: all rows of all tables in one transaction, compared before it is committed.

Both are closed to everybody else meanwhile: a file by its lock, a database of PostgreSQL by a lock on its tables, and only while no process
is a member. The source is not changed. Never knows what a request is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import zip_longest
from typing import Any, Final

from kmsconn.errors import StartRefused
from kmsconn.journal.database import Driver, opening
from kmsconn.journal.members import MEMBERS, member_of
from kmsconn.journal.postgres_schema import SCHEMA_KEY, VERSION, storable
from kmsconn.journal.schema import TABLES, Table

Progress = Callable[[str, int], None]

BATCH: Final = 500
"""Rows that are in memory at once; one of a request has some kilobytes."""

SILENCE: Final = 60
"""Seconds without a sign of life after which a member of a PostgreSQL journal counts as gone here: many times a usual lease."""

_KEPT_EMPTY: Final = frozenset({"tally", "meta"})
"""Tables that a journal without requests may have rows in; those of the source replace them."""
_OWN: Final = {"meta": f"key <> '{SCHEMA_KEY}'"}
"""Which rows are copied of a table, where not all are: the version of the tables is each database's own."""


class CopyFailed(StartRefused):
    """The copy could not be made, or is not what the original is; it was not kept."""


def copy_journal(
    source: Driver, target: Driver, progress: Progress = lambda _table, _rows: None
) -> Mapping[str, int]:
    """Copy all of one journal into another one, which may not be there yet, and return how many rows each table has.

    ``progress`` is told of each batch. Raises StartRefused where one of them cannot be opened or is in use, where the source has what this
    version does not know, and where the target is not empty; CopyFailed where they differ in the end, or a database failed. Then the target
    is as empty as it was.
    Repeating: only after the target was emptied.
    """
    with ExitStack() as stack:
        for driver, make in ((source, False), (target, True)):
            stack.callback(driver.close)
            with opening(driver):
                driver.open(make=make)
                driver.begin()
                stack.callback(driver.roll_back)
                if driver.is_remote:
                    _claim(driver)
        try:
            _check_known(source)
            _check_empty(target)
            _count_nothing(target, "DISABLE")
            copied = {table.name: _copy(source, target, table, progress) for table in TABLES}
            _count_nothing(target, "ENABLE")
            target.commit()
        except (source.error, target.error) as error:
            raise CopyFailed(f"the copy failed, and nothing was kept: {error}") from error
        return copied


def _copy(source: Driver, target: Driver, table: Table, progress: Progress) -> int:
    """Copy a table, and compare what stands there then with what was read. Raises CopyFailed where that differs."""
    if table.name in _KEPT_EMPTY:
        target.execute(f"DELETE FROM {table.name} WHERE {_OWN.get(table.name, 'true')}")  # noqa: S608 - our own names
    marks = ", ".join("?" * len(table.columns))
    writing = f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})"  # noqa: S608 - our own names
    rows = 0
    for batch in batches(source, table):
        for row in batch:
            target.execute(writing, row)
        target.execute("SELECT 1").fetchone()  # what was queued is done now, and a batch's rows are not kept
        rows += len(batch)
        progress(table.name, rows)
    if table.numbered:
        _number_from(target, table, _last_number(source, table))
    if any(there != read for there, read in zip_longest(batches(target, table), batches(source, table))):
        raise CopyFailed(f"the copy of the table {table.name} differs; nothing was kept")
    return rows


def batches(driver: Driver, table: Table) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows in the order of the key, as every database takes them; those of a numbered table by parts: there may be millions."""
    reading = f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE {_OWN.get(table.name, 'true')}"  # noqa: S608 - our own names
    part, last = f"{reading} AND {table.order} > ? ORDER BY {table.order} LIMIT {BATCH}", 0
    while rows := driver.execute(
        *((part, (last,)) if table.numbered else (f"{reading} ORDER BY {table.order}",))
    ).fetchall():
        yield [tuple(storable(value) if isinstance(value, str) else value for value in row) for row in rows]
        if not table.numbered:
            return
        last = rows[-1][0]


def _check_known(source: Driver) -> None:
    """Raise StartRefused where a newer version may have added what a copy would leave out. Of a file no newer one is opened."""
    found = source.execute("SELECT value FROM meta WHERE key = ?", (SCHEMA_KEY,)).fetchone()
    if found is not None and int(found[0].split()[0]) > VERSION:
        raise StartRefused(
            f"the journal {source.where} has the tables of a newer version, and a copy by this one may lack what that has added; "
            "copy it with the newest version that has worked on it"
        )


def _check_empty(target: Driver) -> None:
    """Raise StartRefused where the target has rows that a copy would stand beside."""
    for name in [table.name for table in TABLES if table.name not in _KEPT_EMPTY]:
        if target.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() is not None:  # noqa: S608 - our own names
            raise StartRefused(
                f"the journal {target.where} is not empty: it has rows of the table {name}; name a journal that is not there yet"
            )


def _claim(driver: Driver) -> None:
    """Keep everybody else out until the transaction ends, however long that takes. Raises StartRefused while processes use it."""
    for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
        driver.execute(f"SET LOCAL {setting} = 0")
    driver.execute("LOCK TABLE member, request IN SHARE ROW EXCLUSIVE MODE")
    members = map(member_of, driver.execute(MEMBERS))
    if named := ", ".join(one.label for one in members if one.silent < SILENCE):
        raise StartRefused(
            f"the journal {driver.where} is in use by {named}; stop it (one that was killed counts as gone after {SILENCE} s)"
        )


def _count_nothing(target: Driver, how: str) -> None:
    """Let nothing be counted and told as rows come: the counts come after them."""
    if target.is_remote:
        target.execute(f"ALTER TABLE request {how} TRIGGER USER")
    target.tally.forget()


def _last_number(driver: Driver, table: Table) -> int:
    """Return the last number that the key of a table was given; deleted rows count."""
    remote = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {table.name}_{table.order}_seq"  # noqa: S608 - our own names
    local = f"SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = '{table.name}'"  # noqa: S608
    return int(driver.execute(remote if driver.is_remote else local).fetchone()[0])


def _number_from(driver: Driver, table: Table, last: int) -> None:
    """Let numbers go on from the last one."""
    if driver.is_remote:
        driver.execute(f"SELECT setval('{table.name}_{table.order}_seq', ?, ?)", (max(last, 1), last > 0))
        return
    driver.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
    driver.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, last))
